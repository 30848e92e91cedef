package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func (a *app) rotateValue() *cobra.Command {
	var command string
	c := &cobra.Command{
		Use:   "value NAME --hook COMMAND",
		Short: "Give a secret a new value, in four steps that can be resumed",
		Long: `Give a secret a new value where it is used and in the store: create it and store it
as "pending", set it where it is used, test it, and finish by making it "current".
Readers get the old value until the new one has passed its test. Interrupted at
any step, the same command goes on there.

The hook is a shell command that is run for each step, with RESEAL_STEP (create,
set, test or finish), RESEAL_NAME and RESEAL_TOKEN, the same for all steps of a
rotation, in its environment. In create it gets the current value on standard
input and prints the new one; in the others it gets the new value on standard
input. It fails with an exit code that is not 0. Its standard error is shown; a
newline after the value that it prints is not part of it.`,
		Example: `  reseal rotate value app/db/password --hook 'case $RESEAL_STEP in create) reseal random;; esac'`,
		Args:    takes("NAME"),
	}
	c.Flags().StringVar(&command, "hook", "", "the shell `command` that is run for each step")
	c.MarkFlagRequired("hook")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if command == "" {
			return usagef("reseal rotate value --help", "--hook is empty: it takes a shell command")
		}
		return a.unsealed(ctx, func(s *store.Store) error {
			return a.changeValue(ctx, s, args[0], &hook{command: command, app: a})
		})
	})
	return c
}

type jsonValue struct {
	Name    string          `json:"name"`
	Version uint64          `json:"version"`
	Old     uint64          `json:"old_version"`
	Token   string          `json:"token"`
	Resumed rotate.StepName `json:"resumed,omitempty"`
}

func (a *app) changeValue(ctx context.Context, s *store.Store, name string, h *hook) error {
	r, err := rotate.Value(ctx, s, name, h)
	var step *rotate.StepError
	if errors.As(err, &step) {
		return hookError(ctx, name, step)
	}
	if err != nil {
		return err
	}
	note := ""
	if r.Resumed != "" {
		note = fmt.Sprintf(", resumed at step %s", r.Resumed)
	}
	out := jsonValue{r.Name, r.Version, r.Old, r.Token, r.Resumed}
	return a.say(out, "%s version %d is current, version %d is previous%s", r.Name, r.Version, r.Old, note)
}

// hookError is the end of a rotation in one of its steps, with what goes on from
// there.
func hookError(ctx context.Context, name string, step *rotate.StepError) error {
	if ctx.Err() != nil || interrupted(step.Err) {
		return &cliError{exit: exitInterrupted, code: "interrupted", msg: fmt.Sprintf("interrupted in step %s", step.Step), err: step,
			remedy: "run the same command again to go on"}
	}
	again := fmt.Sprintf("run the command again to go on at step %s", step.Step)
	switch step.Step {
	case rotate.StepCreate: // nothing was stored
		again = "run the command again"
	case rotate.StepSet, rotate.StepTest:
		again += ", or give it up: reseal label " + name + " pending --remove"
	}
	return &cliError{exit: exitFailed, code: "hook_failed", msg: step.Error(), err: step, remedy: again}
}

// interrupted reports whether a command ended by the interrupt of a terminal,
// which reaches it as soon as reseal.
func interrupted(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGINT
}

// hook runs a command for each step of a value's rotation.
type hook struct {
	command string
	app     *app
}

// Create runs the step create, whose output is the new value.
func (h *hook) Create(ctx context.Context, step rotate.Step) ([]byte, error) {
	var out bytes.Buffer
	err := h.run(ctx, step, step.Current.Bytes(), &out)
	value := bytes.Clone(bytes.TrimSuffix(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\r")))
	clear(out.Bytes())
	if err == nil && len(value) == 0 {
		err = errors.New("the hook printed no value")
	}
	return value, err
}

// Set runs the step set.
func (h *hook) Set(ctx context.Context, step rotate.Step) error {
	return h.run(ctx, step, step.Pending.Bytes(), nil)
}

// Test runs the step test.
func (h *hook) Test(ctx context.Context, step rotate.Step) error {
	return h.run(ctx, step, step.Pending.Bytes(), nil)
}

// Finish runs the step finish.
func (h *hook) Finish(ctx context.Context, step rotate.Step) error {
	return h.run(ctx, step, step.Current.Bytes(), nil)
}

func (h *hook) run(ctx context.Context, step rotate.Step, input []byte, out *bytes.Buffer) error {
	shell, flag := "/bin/sh", "-c"
	if runtime.GOOS == "windows" {
		shell, flag = "cmd", "/c"
	}
	cmd := exec.CommandContext(ctx, shell, flag, h.command)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "RESEAL_STEP="+string(step.Name), "RESEAL_NAME="+step.Secret, "RESEAL_TOKEN="+step.Token)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = h.app.stderr
	cmd.Stdout = h.app.stderr
	if out != nil {
		cmd.Stdout = out
	}
	return cmd.Run()
}
