package main

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

// importFlags say how a file is read.
type importFlags struct {
	format  string
	prefix  string
	key     string
	dryRun  bool
	literal bool
	expand  bool
	column  columnFlags
	// prefixGiven tells an empty prefix from none.
	prefixGiven bool
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Store all secrets of a dotenv or JSON file, or of a database's column",
		Long: `Store every value of a file, all of them or, if one is refused, none. FILE - is
standard input. A secret whose current value is the same is left alone. Names are
printed, values never.

dotenv is NAME=value lines with comments, export, quotes and values of several
lines. Programs differ on $NAME outside single quotes: if there is any, say with
--literal that it is meant as it stands, or with --expand that it stands for the
value of NAME earlier in the file.

json is a flat object, or the output of aws secretsmanager
batch-get-secret-value, or of vault kv get -format=json (with --prefix).

sqlite-column is a column of an SQLite database that a program encrypted itself
with AES-GCM under one key. FILE is only read. The flags of "column:" below say
where it is and how a value is laid out; --dry-run opens every value and stores
none.`,
		Example: `  printf 'USER=app\nPASSWORD="s3cret"\n' | reseal import - --format dotenv --prefix app/`,
		Args:    takes("FILE"),
	}
	c.Flags().StringVar(&f.format, "format", "", "`dotenv|json|sqlite-column`")
	c.Flags().StringVar(&f.prefix, "prefix", "", "put this `text` before every name")
	c.Flags().StringVar(&f.key, "key", "", "the master `key` of new secrets (default the store's default key)")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "check everything and store nothing")
	c.Flags().BoolVar(&f.literal, "literal", false, "dotenv: $NAME is meant as it stands")
	c.Flags().BoolVar(&f.expand, "expand", false, "dotenv: $NAME stands for a value earlier in the file")
	c.Flags().IntVar(&a.maxValue, "max-value", store.DefaultMaxValue, "the longest value, in `bytes`, up to 1048576")
	c.MarkFlagRequired("format")
	c.MarkFlagsMutuallyExclusive("literal", "expand")
	f.column.flags(c)
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"dotenv", "json", "sqlite-column"}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		f.prefixGiven = c.Flags().Changed("prefix")
		if err := a.checkMaxValue(); err != nil {
			return err
		}
		if err := f.column.check(f.format, c.Flags().Changed); err != nil {
			return err
		}
		return a.importFile(ctx, args[0], f)
	})
	return c
}

// checkMaxValue says what is wrong with --max-value in its own name.
func (a *app) checkMaxValue() error {
	if a.maxValue < 0 || a.maxValue > store.MaxValueLimit {
		return usagef("", "--max-value is %d: at most %d", a.maxValue, store.MaxValueLimit)
	}
	return nil
}

// maxImport bounds the file that is read into memory.
const maxImport = 256 << 20

func (a *app) importFile(ctx context.Context, path string, f importFlags) error {
	pairs, err := a.importable(ctx, path, &f)
	if err != nil {
		return err
	}
	defer clearPairs(pairs)
	for i := range pairs {
		pairs[i].name = f.prefix + pairs[i].name
		if err := store.CheckName(pairs[i].name); err != nil {
			return err
		}
		if len(pairs[i].value) == 0 {
			return usagef("give it a value or leave it out", "import %q: the value of %q is empty", path, pairs[i].name)
		}
	}
	return a.unsealed(ctx, func(s *store.Store) error { return a.importPairs(ctx, s, pairs, f) })
}

// importable reads names and values, whatever they come from.
func (a *app) importable(ctx context.Context, path string, f *importFlags) ([]pair, error) {
	if f.format == "sqlite-column" {
		return a.readColumn(ctx, path, f.prefix, &f.column)
	}
	src, err := await(ctx, func() ([]byte, error) { return a.readImport(path) })
	if err != nil {
		return nil, err
	}
	defer clear(src)
	pairs, err := f.parse(src)
	if err != nil {
		return nil, importError(path, err)
	}
	return pairs, nil
}

func clearPairs(pairs []pair) {
	for _, p := range pairs {
		clear(p.value)
	}
}

func (a *app) readImport(path string) ([]byte, error) {
	r := a.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, usagef("", "%v", err)
		}
		defer file.Close()
		r = file
	}
	src, err := io.ReadAll(io.LimitReader(r, maxImport+1))
	if err != nil {
		return nil, usagef("", "read %q: %v", path, err)
	}
	if len(src) > maxImport {
		return nil, usagef("", "%q is over %d MiB", path, maxImport>>20)
	}
	return src, nil
}

func (f *importFlags) parse(src []byte) ([]pair, error) {
	switch f.format {
	case "dotenv":
		d := dollarAsk
		if f.literal {
			d = dollarLiteral
		} else if f.expand {
			d = dollarExpand
		}
		return parseDotenv(src, d)
	case "json":
		return parseJSON(src, f.prefixGiven)
	}
	return nil, fmt.Errorf("format %q: dotenv, json or sqlite-column", f.format)
}

func importError(path string, err error) error {
	hint := ""
	if errors.Is(err, errDollar) {
		hint = "add --literal to keep $ as it stands, or --expand to replace it by values earlier in the file"
	}
	return usagef(hint, "import %q: %v", path, err)
}

type jsonImport struct {
	DryRun    bool     `json:"dry_run"`
	Created   []string `json:"created"`
	Updated   []string `json:"updated"`
	Unchanged []string `json:"unchanged"`
	LeftOut   int64    `json:"left_out"` // rows of a column that have no value
}

// errDryRun rolls an import back.
var errDryRun = errors.New("dry run")

func (a *app) importPairs(ctx context.Context, s *store.Store, pairs []pair, f importFlags) error {
	res := jsonImport{DryRun: f.dryRun, Created: []string{}, Updated: []string{}, Unchanged: []string{}, LeftOut: f.column.leftOut}
	err := s.Update(ctx, func(tx *sql.Tx) error {
		for _, p := range pairs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := importOne(ctx, s, tx, p, f.key, &res); err != nil {
				return fmt.Errorf("import %q: %w", p.name, err)
			}
		}
		if f.dryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return err
	}
	return a.emit(res, func(w io.Writer) {
		for _, part := range []struct {
			what  string
			names []string
		}{{"created", res.Created}, {"updated", res.Updated}, {"unchanged", res.Unchanged}} {
			for _, name := range part.names {
				fmt.Fprintf(w, "%-10s%s\n", part.what, name)
			}
		}
		switch {
		case len(pairs) == 0:
			fmt.Fprintln(a.stderr, "reseal: there are no values in it")
		case f.dryRun:
			fmt.Fprintln(a.stderr, "reseal: dry run, nothing was stored")
		}
	})
}

func importOne(ctx context.Context, s *store.Store, tx *sql.Tx, p pair, key string, res *jsonImport) error {
	old, err := s.GetTx(ctx, tx, p.name)
	var opts store.PutOptions
	switch {
	case err == nil:
		same := subtle.ConstantTimeCompare(old.Bytes(), p.value) == 1
		old.Clear()
		if same {
			res.Unchanged = append(res.Unchanged, p.name)
			return nil
		}
	case errors.Is(err, store.ErrNotFound):
		opts.Key = key
	default:
		return err
	}
	put, err := s.PutTx(ctx, tx, p.name, p.value, &opts)
	if err != nil {
		return err
	}
	if put.Created {
		res.Created = append(res.Created, p.name)
	} else {
		res.Updated = append(res.Updated, p.name)
	}
	return nil
}

func (a *app) exportCommand() *cobra.Command {
	var format, prefix, out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print all current values as dotenv or JSON",
		Long: `Print the current values of all secrets, or of those whose names begin with
--prefix, which is left out of the names. With -o they go to a new file that only
you can read. A value that is not text, or a name that a dotenv file cannot have,
is an error that names it: nothing is printed then.`,
		Example: `  reseal export --format dotenv --prefix env/`,
		Args:    takes(),
	}
	c.Flags().StringVar(&format, "format", "", "`dotenv|json`")
	c.Flags().StringVar(&prefix, "prefix", "", "only names that begin with this `text`")
	c.Flags().StringVarP(&out, "output", "o", "", "write to this new `file`")
	c.MarkFlagRequired("format")
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"dotenv", "json"}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		if format != "dotenv" && format != "json" {
			return usagef("reseal export --help", "format %q: dotenv or json", format)
		}
		if err := freePath(out); err != nil {
			return err
		}
		return a.export(ctx, format, prefix, out)
	})
	return c
}

func (a *app) export(ctx context.Context, format, prefix, out string) error {
	return a.unsealed(ctx, func(s *store.Store) error {
		pairs, err := exportPairs(ctx, s, prefix)
		defer clearPairs(pairs)
		if err != nil {
			return err
		}
		text, err := exportText(pairs, format, prefix)
		defer clear(text)
		if err != nil {
			return err
		}
		if out == "" {
			_, err := a.stdout.Write(text)
			return err
		}
		if err := writeNewFile(out, text); err != nil {
			return err
		}
		res := struct {
			Output  string `json:"output"`
			Secrets int    `json:"secrets"`
		}{out, len(pairs)}
		return a.say(res, "%s written to %s", plural(int64(len(pairs)), "secret"), out)
	})
}

func exportPairs(ctx context.Context, s *store.Store, prefix string) ([]pair, error) {
	secrets, err := s.List(ctx, store.ListOptions{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for _, sec := range secrets {
		v, err := s.Get(ctx, sec.Name)
		if err != nil {
			return pairs, err
		}
		pairs = append(pairs, pair{name: sec.Name, value: v.Bytes()})
	}
	return pairs, nil
}

func exportText(pairs []pair, format, prefix string) ([]byte, error) {
	if format == "json" {
		return exportJSON(pairs, prefix)
	}
	var out []byte
	var err error
	for _, p := range pairs {
		if out, err = appendDotenv(out, strings.TrimPrefix(p.name, prefix), p.value); err != nil {
			return nil, exportError(p.name, format, err)
		}
	}
	return out, nil
}

func exportJSON(pairs []pair, prefix string) ([]byte, error) {
	object := map[string]string{}
	for _, p := range pairs {
		name := strings.TrimPrefix(p.name, prefix)
		if !utf8.Valid(p.value) {
			return nil, exportError(p.name, "json", errors.New("the value is not text"))
		}
		if name == "" {
			return nil, exportError(p.name, "json", errors.New("nothing is left of its name without the prefix"))
		}
		object[name] = string(p.value)
	}
	out, err := json.MarshalIndent(object, "", "  ")
	return append(out, '\n'), err
}

func exportError(name, format string, err error) error {
	hint := "reseal get " + name + " -o FILE"
	if format == "dotenv" && strings.Contains(err.Error(), "name") {
		hint = "use --format json, or a --prefix after which only letters, digits and _ are left"
	}
	return usagef(hint, "export %q as %s: %v", name, format, err)
}
