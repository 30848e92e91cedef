package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// What must never be seen.
const (
	canaryValue      = "cAnArY-VaLuE-9b41f0e2"
	canaryPassphrase = "cAnArY-PaSsPhRaSe-6d17c3"
)

// forms returns the ways in which a printer may show some bytes. Of each only
// the first are taken, so that a cut is found too.
func forms(canary []byte) []string {
	head := canary[:12]
	decimal := strings.Trim(fmt.Sprint(head), "[]")
	hexed := hex.EncodeToString(head)
	quoted := fmt.Sprintf("%#v", head)
	return []string{
		string(head), hexed, strings.ToUpper(hexed), fmt.Sprintf("% x", head), decimal, strings.ReplaceAll(decimal, " ", ","),
		strings.TrimSuffix(strings.TrimPrefix(quoted, "[]byte{"), "}"), base64.RawStdEncoding.EncodeToString(head), base64.RawURLEncoding.EncodeToString(head),
	}
}

// canaries holds the forms by what they are of.
type canaries map[string][]string

func (c canaries) add(what string, secret []byte) { c[what] = append(c[what], forms(secret)...) }

// seen returns what is seen in text, or "".
func (c canaries) seen(text string) string {
	for what, forms := range c {
		for _, f := range forms {
			if strings.Contains(text, f) {
				return what
			}
		}
	}
	return ""
}

// hidden puts a value where redacting methods are not called.
type hidden[T any] struct{ inner T }

// prints returns v in every way a program may print it.
func prints[T any](v T) map[string]string {
	out := map[string]string{}
	nested, pointer := hidden[T]{v}, &hidden[*T]{&v}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%o"} {
		for where, arg := range map[string]any{
			"": v, "pointer": &v, "field": nested, "pointer field": pointer, "slice": []T{v}, "map": map[string]T{"k": v}, "error": fmt.Errorf("%v: %w", v, errors.New("x")),
		} {
			out[verb+" "+where] = fmt.Sprintf(verb, arg)
		}
	}
	for where, arg := range map[string]any{"": v, "pointer": &v, "field": nested, "slice": []T{v}} {
		var text, js, gobbed bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", arg)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "v", arg)
		encoded, err := json.Marshal(arg)
		gerr := gob.NewEncoder(&gobbed).Encode(arg)
		out["slog text "+where], out["slog JSON "+where] = text.String(), js.String()
		out["JSON "+where] = fmt.Sprintf("%s %v", encoded, err)
		out["gob "+where] = fmt.Sprintf("%s %v", gobbed.Bytes(), gerr)
	}
	return out
}

// leakStore has a value, a passphrase and keys in memory, and knows what they
// look like.
func leakStore(t *testing.T) (*store.Store, canaries) {
	t.Helper()
	var log bytes.Buffer
	o := options()
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := store.Create(t.Context(), filepath.Join(t.TempDir(), "reseal.db"), store.Passphrase([]byte(canaryPassphrase)), o)
	if err != nil {
		t.Fatal(err)
	}
	c := canaries{}
	t.Cleanup(func() {
		s.Close()
		if seen := c.seen(log.String()); seen != "" || log.Len() == 0 {
			t.Errorf("%d bytes of log show a %s", log.Len(), seen)
		}
	})
	put(t, s, "app/db", canaryValue, "")
	wantValue(t, s, "app/db", canaryValue)
	c.add("value", []byte(canaryValue))
	c.add("passphrase", []byte(canaryPassphrase))
	for what, key := range store.HeldKeys(s) {
		c.add(what, key)
	}
	if len(c) < 5 {
		t.Fatalf("only %d secrets are in memory", len(c))
	}
	return s, c
}

// specimens is a value of every exported type, as it comes out of a store or
// goes into one.
func specimens(t *testing.T, s *store.Store) []any {
	t.Helper()
	ctx := t.Context()
	pass := store.Passphrase([]byte(canaryPassphrase))
	creds := store.RotateRootOptions{Credentials: map[string]store.Credential{slotIDs(t, s)[0]: pass}}
	put, err := s.Put(ctx, "app/second", []byte(canaryValue), nil)
	info := must(s.Show(ctx, "app/db"))(t)
	key := must(s.Key(ctx, "default"))(t)
	rotation := must(s.StartRotation(ctx, store.RotationSpec{From: "default", To: "default"}))(t)
	backup := must(s.Backup(ctx, filepath.Join(t.TempDir(), "copy.db")))(t)
	explained := must(s.Explain(ctx, "app/db", 0))(t)
	if err != nil {
		t.Fatal(err)
	}
	description := "a database"
	return []any{
		s, options(), pass, must(s.Get(ctx, "app/db"))(t), store.Version(1), store.Enabled, store.JobState("running"), store.MigrateCheck,
		store.PutOptions{Key: "default", Description: &description}, put, store.NewItem("app/third", []byte(canaryValue), nil), *info, info.Versions[0], key, key.Versions[0], key.Dependents,
		store.ListOptions{}, store.SetKeyResult{}, store.EventFilter{}, must(s.Events(ctx, store.EventFilter{}))(t)[0],
		store.Error{Op: "get", Secret: "app/db", Err: store.ErrDamaged}, must(s.Slots(ctx))(t)[0], creds, must(s.RotateRoot(ctx, creds))(t),
		backup, backup.Keys[0], must(s.Anchor(ctx))(t), rotation, must(s.Jobs(ctx)), store.RotationSpec{}, store.Job{}, store.Receipt{},
		store.Batch{}, store.Prepared{}, store.Settled{}, store.ReadBack{}, store.Failure{}, must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t),
		store.VerifyOptions{}, explained, explained.Steps[0], store.DeleteResult{}, store.RestoreResult{}, store.PurgeResult{}, must(s.Sweep(ctx, true))(t), store.SweepSkip{},
		store.WatchOptions{}, watch(t, s, "app/db", slowly), must(s.ScanResidue(ctx))(t), store.ResidueFile{},
		must(s.PlanRotation(ctx, store.RotationSpec{From: "default", To: "default", Mode: store.ModeReencrypt}, nil))(t),
		store.PlanOptions{}, store.PlanCheck{}, store.PlanCost{}, store.PlanDisk{},
	}
}

func TestNothingThatIsExportedPrintsASecret(t *testing.T) {
	s, c := leakStore(t)
	covered := map[string]bool{}
	for _, v := range specimens(t, s) {
		typ := reflect.TypeOf(v)
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		covered[typ.Name()] = true
		for how, text := range prints(v) {
			if what := c.seen(text); what != "" {
				t.Errorf("%s of %s shows a %s", how, typ, what)
			}
		}
	}
	for _, name := range exportedTypes(t) {
		if !covered[name] {
			t.Errorf("type %s has no specimen", name)
		}
	}
}

// exportedTypes returns the names of the types that the package exports.
func exportedTypes(t *testing.T) []string {
	t.Helper()
	var names []string
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				names = append(names, spec.Name.Name)
			}
			return true
		})
	}
	return names
}

func TestLeakScannerFindsLeaks(t *testing.T) {
	_, c := leakStore(t)
	type open struct{ Value []byte }
	texts := prints(open{[]byte(canaryValue)})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		for _, where := range []string{"", "pointer", "field", "slice", "map"} {
			if how := verb + " " + where; c.seen(texts[how]) == "" {
				t.Errorf("%s shows the value and was not found: %s", how, texts[how])
			}
		}
	}
	for _, how := range []string{"%v error", "slog text ", "slog text field", "slog JSON ", "JSON ", "JSON slice", "gob "} {
		if c.seen(texts[how]) == "" {
			t.Errorf("%s shows the value and was not found: %s", how, texts[how])
		}
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	s, c := leakStore(t)
	ctx := t.Context()
	value := []byte(canaryValue)
	long := bytes.Repeat(value, store.DefaultMaxValue/len(value)+1)
	_, tokenFirst := s.Put(ctx, "app/token", value, &store.PutOptions{Token: "t-1"})
	if err := errors.Join(tokenFirst, s.CreateKey(ctx, "mk-1")); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/disabled", canaryValue, "mk-1")
	if _, err := s.DisableKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "bad.key")
	if err := os.WriteFile(keyFile, []byte("reseal-key-v1:"+canaryPassphrase), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RESEAL_TEST_KEY", canaryPassphrase)
	get := func(name string, sel ...store.Selector) error { _, err := s.Get(ctx, name, sel...); return err }
	putErr := func(name string, value []byte, o *store.PutOptions) error {
		_, err := s.Put(ctx, name, value, o)
		return err
	}
	open := func(cred store.Credential) error { _, err := store.Open(ctx, s.Path(), cred, nil); return err }
	errs := map[string]error{
		"put too long":         putErr("app/db", long, nil),
		"put bad name":         putErr("../app", value, nil),
		"put bad label":        putErr("app/db", value, &store.PutOptions{Label: "\x00"}),
		"put bad token":        putErr("app/db", value, &store.PutOptions{Token: "\x00"}),
		"put other key":        putErr("app/db", value, &store.PutOptions{Key: "mk-1"}),
		"put token conflict":   putErr("app/token", append(value, 'x'), &store.PutOptions{Token: "t-1"}),
		"put disabled":         putErr("app/disabled", value, nil),
		"put unknown key":      putErr("app/unknown", value, &store.PutOptions{Key: "no-such"}),
		"get disabled":         get("app/disabled"),
		"get no version":       get("app/db", store.Version(99)),
		"get no label":         get("app/db", store.Label("blue")),
		"open other":           open(store.Passphrase([]byte(canaryPassphrase + "x"))),
		"open bad key file":    open(store.KeyFile(keyFile)),
		"open bad environment": open(store.Environment("RESEAL_TEST_KEY")),
	}
	rawSQL(t, s.Path(), `UPDATE reseal_secret_versions SET sealed = zeroblob(length(sealed))`)
	errs["get damaged"] = get("app/db")
	_, errs["set-key of disabled target"] = s.SetKey(ctx, "app/db", "mk-1")
	rawSQL(t, s.Path(), `UPDATE reseal_data_keys SET wrapped = zeroblob(108)`)
	_, errs["set-key damaged"] = s.SetKey(ctx, "app/disabled", "default")
	_, errs["show damaged"] = s.Show(ctx, "app/db")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, errs["cancelled"] = s.Put(cancelled, "app/db", value, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	errs["put closed"], errs["get closed"] = putErr("app/db", value, nil), get("app/db")
	for what, err := range errs {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		for how, text := range prints(err) {
			if seen := c.seen(text); seen != "" {
				t.Errorf("%s: %s of the error shows a %s", what, how, seen)
			}
		}
	}
}

func TestFilesHoldNoPlaintext(t *testing.T) {
	s, c := leakStore(t)
	ctx := t.Context()
	if _, err := s.Put(ctx, "app/db", []byte(canaryValue), &store.PutOptions{Token: "t-1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetKey(ctx, "app/db", "default"); err != nil {
		t.Fatal(err)
	}
	var events bytes.Buffer
	if _, err := s.ExportEvents(ctx, &events); err != nil {
		t.Fatal(err)
	}
	if seen := c.seen(events.String()); seen != "" {
		t.Errorf("the audit trail shows a %s", seen)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(s.Path()), "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v: the log should be there", files, err)
	}
	for _, name := range files {
		data := must(os.ReadFile(name))(t)
		if seen := c.seen(string(data)); seen != "" {
			t.Errorf("%s shows a %s", filepath.Base(name), seen)
		}
		if strings.HasSuffix(name, ".db-wal") && !bytes.Contains(data, []byte("app/db")) {
			t.Error("the log does not hold the secret's name: the test has no teeth")
		}
	}
}

func TestClearedValueIsGone(t *testing.T) {
	s, _ := leakStore(t)
	v := must(s.Get(t.Context(), "app/db"))(t)
	held := v.Bytes()
	v.Clear()
	if diff := cmp.Diff(make([]byte, len(canaryValue)), held); diff != "" {
		t.Errorf("after Clear (-want +got):\n%s", diff)
	}
	var none store.Value
	none.Clear()
	if none.Bytes() != nil || !none.CreatedAt.Equal(time.Time{}) {
		t.Error("the zero Value has bytes")
	}
}
