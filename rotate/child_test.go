package rotate_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// A test binary that finds RESEAL_TEST_CHILD in its environment is not a test
// but a process that works on a store, for the tests that need a second one.
const childVariable = "RESEAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childVariable); role != "" {
		os.Exit(runChild(role, os.Getenv("RESEAL_TEST_STORE"), os.Getenv("RESEAL_TEST_SEED")))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// child is another process at work.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer // closing it asks the child to end
	out   *bufio.Scanner
	err   bytes.Buffer // what it complained of, complete after Wait
}

func startChild(tb testing.TB, role, path string, seed uint64) *child {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+role, "RESEAL_TEST_STORE="+path, "RESEAL_TEST_SEED="+strconv.FormatUint(seed, 10))
	c := &child{cmd: cmd}
	cmd.Stderr = &c.err
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cmd.Process.Kill() })
	c.stdin, c.out = in, bufio.NewScanner(out)
	if !c.out.Scan() || c.out.Text() != "ready" {
		cmd.Wait()
		tb.Fatalf("child %s did not begin: %s", role, &c.err)
	}
	return c
}

// rest returns the child's lines until its end. A line that the child could not
// finish is not among them.
func (c *child) rest() []string {
	var lines []string
	for c.out.Scan() {
		if line, whole := strings.CutSuffix(c.out.Text(), ";"); whole {
			lines = append(lines, line)
		}
	}
	return lines
}

// worker is the inside of a child.
type worker struct {
	ctx  context.Context
	s    *store.Store
	seed uint64
	mu   sync.Mutex
	bad  bool
}

func runChild(role, path, seed string) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, err := store.Open(ctx, path, credential(), options())
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	defer s.Close()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	n, _ := strconv.ParseUint(seed, 10, 64)
	w := &worker{ctx: ctx, s: s, seed: n}
	fmt.Println("ready")
	w.run(role, n)
	if w.bad {
		return 1
	}
	return 0
}

func (w *worker) run(role string, seed uint64) {
	var wg sync.WaitGroup
	start := func(salt uint64, fn func(*rand.Rand)) {
		wg.Go(func() { fn(rand.New(rand.NewPCG(seed, salt))) })
	}
	switch role {
	case "all": // what is killed
		start(1, w.put)
		start(2, w.setKey)
		start(3, w.rotate)
	case "split": // what a set-key in two transactions would be, to be killed
		start(1, w.splitSetKey)
	case "write":
		start(1, w.put)
	case "read":
		start(1, w.read)
	}
	wg.Wait()
}

// say writes one whole line to the parent.
func (w *worker) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Printf(format+";\n", args...)
}

// fails tells an error, unless it is of the end or one of those allowed.
func (w *worker) fails(what string, err error, allowed ...error) bool {
	if err == nil || w.ctx.Err() != nil {
		return err != nil
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad = true
	fmt.Fprintf(os.Stderr, "child: %s: %v\n", what, err)
	return true
}

// workSecrets is how many secrets the workers work on.
const workSecrets = 12

func workName(r *rand.Rand) string { return fmt.Sprintf("work/%d", r.IntN(workSecrets)) }

var workKeys = []string{"mk-1", "mk-2", "default"}

func workKey(r *rand.Rand) string { return workKeys[r.IntN(len(workKeys))] }

// put acknowledges each version that Put returned.
func (w *worker) put(r *rand.Rand) {
	for w.ctx.Err() == nil {
		name, word := workName(r), strconv.FormatUint(r.Uint64(), 36)
		began := time.Now()
		res, err := w.s.Put(w.ctx, name, []byte(word), nil)
		if !w.fails("put", err) {
			w.say("put %s %d %s %d", name, res.Version, word, time.Since(began).Microseconds())
		}
		time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
	}
}

func (w *worker) setKey(r *rand.Rand) {
	for w.ctx.Err() == nil {
		_, err := w.s.SetKey(w.ctx, workName(r), workKey(r))
		w.fails("set-key", err, store.ErrNotFound)
		time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
	}
}

// rotate runs one rotation after the other, in small batches.
func (w *worker) rotate(r *rand.Rand) {
	for w.ctx.Err() == nil {
		o := rotate.Options{Batch: 1 + r.IntN(20), Pause: -1, Fast: r.IntN(2) == 0}
		switch r.IntN(4) {
		case 0, 1:
			o.Mode = rotate.Reencrypt
		case 2:
			o.Mode, o.MadeBefore = rotate.Reencrypt, time.Now().Add(-time.Duration(r.IntN(2000))*time.Millisecond)
		}
		if o.From, o.To = workKey(r), workKey(r); o.From == o.To {
			o.Key, o.From, o.To = o.From, "", ""
			_, err := w.s.RotateKey(w.ctx, o.Key)
			w.fails("key rotate", err)
		}
		_, err := rotate.Run(w.ctx, w.s, o)
		w.fails("rotate", err, store.ErrJobRunning)
	}
}

func (w *worker) read(r *rand.Rand) {
	for w.ctx.Err() == nil {
		began := time.Now()
		v, err := w.s.Get(w.ctx, fmt.Sprintf("app/%d", r.IntN(100)))
		if !w.fails("get", err) {
			w.say("get %d", time.Since(began).Microseconds())
			v.Clear()
		}
	}
}
