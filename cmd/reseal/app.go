package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reseal/reseal/store"
)

// app is one invocation of the command.
type app struct {
	stdin  io.Reader
	stdout *checkedWriter
	stderr io.Writer

	db             string
	json           bool
	events         bool // rotate run's: progress as lines of JSON
	noColor        bool
	keyFile        string
	passphraseFile string
	anchorFile     string
	cred           store.Credential // that the store was opened with
	maxValue       int

	now     func() time.Time
	root    *cobra.Command
	started bool // a command's own code has begun: errors are no longer usage errors
}

// clock is the context's key for a func() time.Time that tells another time than
// the real one: for the dates in tests.
type clock struct{}

// run is the command: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is an error of the write, reported like any other
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal kills
	a := &app{stdin: stdin, stdout: &checkedWriter{w: stdout}, stderr: stderr, now: time.Now}
	if now, ok := ctx.Value(clock{}).(func() time.Time); ok {
		a.now = now
	}
	defer func() {
		if recover() != nil {
			code = a.fail(&cliError{exit: exitFailed, code: "internal", msg: "internal error: this is a bug in reseal; the store was left as the last completed change made it"})
		}
	}()
	a.root = a.rootCommand()
	a.root.SetArgs(args)
	a.json = jsonAsked(args)
	cmd, err := a.root.ExecuteContextC(ctx)
	switch lost := a.stdout.err; {
	case lost != nil && (err == nil || errors.Is(err, lost)):
		err = &cliError{exit: exitFailed, code: "output", msg: "write output: " + lost.Error(), err: lost}
	case err != nil && !a.started:
		err = usageFrom(cmd, err)
	}
	if err != nil {
		return a.fail(err)
	}
	return exitOK
}

// jsonAsked finds --json before the flags are parsed, for errors in the flags.
func jsonAsked(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "reseal",
		Short: "Secrets in one SQLite file, and a key rotation that leaves nothing behind",
		Long: `Reseal keeps secrets in one SQLite file. Each version of a secret is sealed
under its own data key, which a named master key wraps. The key that a secret is
configured with is the key that wraps every version of it.`,
		Example: `  reseal init --key-file reseal.key
  export RESEAL_KEY_FILE=reseal.key
  reseal random | reseal put app/db/password
  reseal get app/db/password`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          a.group,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return badFlag(cmd, err) })
	a.globalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: "secrets", Title: "Secrets:"},
		&cobra.Group{ID: "keys", Title: "Keys and rotation:"},
		&cobra.Group{ID: "store", Title: "The store:"},
	)
	a.addCommands(root)
	root.InitDefaultHelpCmd()
	a.helpOfCommands(root)
	root.InitDefaultCompletionCmd()
	a.finish(root)
	return root
}

func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.db, "db", cmp.Or(os.Getenv("RESEAL_DB"), "reseal.db"), "the store's `file` (RESEAL_DB)")
	f.BoolVar(&a.json, "json", false, "print JSON, errors too")
	f.BoolVar(&a.noColor, "no-color", false, "print no colors (NO_COLOR)")
	f.StringVar(&a.keyFile, "key-file", "", "unseal with the key in this `file` (RESEAL_KEY_FILE)")
	f.StringVar(&a.passphraseFile, "passphrase-file", "", "unseal with the passphrase in this `file` (RESEAL_PASSPHRASE_FILE)")
	f.StringVar(&a.anchorFile, "anchor", os.Getenv("RESEAL_ANCHOR"), "refuse a store older than the anchor in this `file` (RESEAL_ANCHOR)")
	f.Lookup("anchor").DefValue = ""
	f.Lookup("db").DefValue = "reseal.db"
	root.MarkPersistentFlagFilename("db")
	root.MarkPersistentFlagFilename("anchor")
	root.MarkPersistentFlagFilename("key-file")
	root.MarkPersistentFlagFilename("passphrase-file")
}

func (a *app) addCommands(root *cobra.Command) {
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
		}
		root.AddCommand(cmds...)
	}
	add("secrets", a.putCommand(), a.getCommand(), a.listCommand(), a.showCommand(), a.explainCommand(), a.labelCommand(), a.tagCommand(), a.deleteCommand(), a.restoreCommand(), a.purgeCommand(),
		a.pruneCommand(), a.discardCommand(), a.randomCommand(), a.importCommand(), a.exportCommand())
	add("keys", a.keyCommand(), a.setKeyCommand(), a.rotateCommand())
	add("store", a.initCommand(), a.unsealCommand(), a.verifyCommand(), a.sweepCommand(), a.backupCommand(), a.anchorCommand(), a.auditCommand(), a.migrateCommand(), a.doctorCommand(), a.demoCommand(), a.versionCommand())
}

// helpOfCommands makes help for what is no command an error.
func (a *app) helpOfCommands(root *cobra.Command) {
	help, _, _ := root.Find([]string{"help"})
	show := help.Run
	help.RunE = func(cmd *cobra.Command, args []string) error {
		if of, rest, _ := root.Find(args); len(rest) > 0 {
			return a.group(of, rest)
		}
		show(cmd, args)
		return nil
	}
}

// finish gives every command what all of them have.
func (a *app) finish(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	if cmd.Name() == "completion" {
		cmd.Short = "Print the completion script of a shell"
		cmd.Long, cmd.Example = "Print what lets a shell complete commands, flags, and the names of secrets and keys.", "  source <(reseal completion bash)"
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, a.group
		for _, c := range cmd.Commands() {
			c.Long, c.Example = c.Short+".", "  reseal completion "+c.Name()
		}
	}
	if _, arg, ok := strings.Cut(cmd.Use, " "); ok && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = a.completeNames(strings.Fields(arg))
	}
	for _, c := range cmd.Commands() {
		a.finish(c)
	}
}

// completeNames completes the arguments NAME and KEY from what the store
// records, without its key.
func (a *app) completeNames(args []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, done []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(done) >= len(args) || args[len(done)] != "NAME" && args[len(done)] != "KEY" {
			return nil, cobra.ShellCompDirectiveDefault
		}
		o := a.options()
		o.Migrate = store.MigrateRefuse
		s, err := store.OpenSealed(cmd.Context(), a.db, o)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer s.Close()
		var names []string
		if args[len(done)] == "KEY" {
			keys, _ := s.Keys(cmd.Context())
			for _, k := range keys {
				names = append(names, k.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		secrets, _ := s.List(cmd.Context(), store.ListOptions{Prefix: typed, Deleted: cmd.Name() == "restore", Limit: 200})
		for _, sec := range secrets {
			names = append(names, sec.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// runs adapts a command's body to cobra.
func (a *app) runs(fn func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := noEmptyFile(cmd); err != nil {
			return err
		}
		a.started = true
		return fn(cmd.Context(), args)
	}
}

// noEmptyFile refuses a flag whose file has no name: a variable that is not set,
// which would send a value to the terminal or choose another key.
func noEmptyFile(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if kind, _ := pflag.UnquoteUsage(f); kind == "file" && f.Value.String() == "" {
			err = usagef(cmd.CommandPath()+" --help", "--%s is empty: it takes the name of a file", f.Name)
		}
	})
	return err
}

// numbered refuses version 0.
func numbered(version uint64) error {
	if version == 0 {
		return usagef("", "versions are numbered from 1")
	}
	return nil
}

// noun is a command that only has other commands under it.
func (a *app) noun(use, short, example string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: a.group}
	c.AddCommand(cmds...)
	return c
}

// group is the body of a noun: its help without arguments, else an unknown
// command.
func (a *app) group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && cmd == a.root {
		return cmd.Help()
	}
	if len(args) == 0 {
		return usagef(cmd.CommandPath()+" --help", "%s needs a command: %s", cmd.CommandPath(), strings.Join(commandNames(cmd), ", "))
	}
	help := cmd.CommandPath() + " --help"
	cmd.SuggestionsMinimumDistance = 1
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		help = cmd.CommandPath() + " " + near[0] + " --help"
	}
	return usagef(help, "unknown command %q for %q", args[0], cmd.CommandPath())
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

func badFlag(cmd *cobra.Command, err error) error {
	if cmd == cmd.Root() && err.Error() == "unknown flag: --version" {
		return usagef("reseal version", "%v", err)
	}
	return usagef(cmd.CommandPath()+" --help", "%s", inWords(err.Error()))
}

// usageFrom makes an error of cobra's own a usage error.
func usageFrom(cmd *cobra.Command, err error) error {
	if _, ok := err.(*cliError); ok {
		return err
	}
	return usagef(cmd.CommandPath()+" --help", "%s", inWords(err.Error()))
}

// takes is the number of arguments that a command takes, by name.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef(cmd.CommandPath()+" --help", "%s takes %s, and got %d", cmd.CommandPath(), argList(names), len(args))
	}
}

// takesUpTo is like takes, with all arguments optional.
func takesUpTo(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= len(names) {
			return nil
		}
		return usagef(cmd.CommandPath()+" --help", "%s takes at most %s, and got %d", cmd.CommandPath(), argList(names), len(args))
	}
}

func argList(names []string) string {
	switch len(names) {
	case 0:
		return "no arguments"
	case 1:
		return "1 argument, " + names[0]
	}
	return fmt.Sprintf("%d arguments, %s", len(names), strings.Join(names, " and "))
}

// usageTemplate is cobra's with the examples last.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND [flags]{{else}}{{.UseLine}}{{if .HasAvailableFlags}} [flags]{{end}}{{end}}
{{- if .HasAvailableSubCommands}}{{$cmds := .Commands}}{{if eq (len .Groups) 0}}

Commands:{{range $cmds}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{else}}{{range $group := .Groups}}

{{.Title}}{{range $cmds}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}

Others:{{range $cmds}}{{if and (eq .GroupID "") .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasExample}}

Example:
{{.Example}}{{end}}
`
