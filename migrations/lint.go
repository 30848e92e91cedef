package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// Problem is a mistake in a migration.
type Problem struct {
	File string
	Line int
	Rule string // short and stable, such as "strict"
	Text string // what is wrong and what to do
}

// String returns "file:line: text (rule)".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d: %s (%s)", p.File, p.Line, p.Text, p.Rule)
}

// Lint looks for mistakes in one migration that lose data, cannot be undone, or
// make a check that checks nothing. It reads text only; that the statements
// work is for the tests to show.
//
// Its rules are name, annotations, transaction, prefix, strict, cascade,
// rebuild, replace, exists, empty-check, ciphertext and pragma.
func Lint(name string, sql []byte) []Problem {
	l := &linter{file: name}
	if !nameForm.MatchString(name) {
		l.add(1, "name", "the name should be like 00002_what_it_does.sql")
	}
	l.annotations(string(sql))
	all := statements(string(sql))
	for _, s := range all {
		l.statement(s)
	}
	l.dropped(all)
	slices.SortStableFunc(l.found, func(a, b Problem) int { return a.Line - b.Line })
	return l.found
}

// LintAll lints every migration in fsys and checks that their numbers go from
// 1 on without a gap or a double.
func LintAll(fsys fs.FS) ([]Problem, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	var all []Problem
	for i, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		if version, err := versionOf(name); err == nil && version != int64(i)+1 {
			all = append(all, Problem{name, 1, "sequence", fmt.Sprintf("its number should be %d: numbers have no gaps and no doubles", i+1)})
		}
		all = append(all, Lint(name, text)...)
	}
	if len(names) == 0 {
		return nil, errors.New("there are no migrations")
	}
	return all, nil
}

var nameForm = regexp.MustCompile(`^[0-9]{5}_[a-z0-9_]+\.sql$`)

type linter struct {
	file  string
	found []Problem
}

func (l *linter) add(line int, rule, text string) {
	l.found = append(l.found, Problem{l.file, line, rule, text})
}

// annotations checks goose's comment lines.
func (l *linter) annotations(sql string) {
	up, down := 0, 0
	for i, line := range strings.Split(sql, "\n") {
		what, is := annotation(line)
		switch {
		case !is:
		case what == "up":
			up++
		case what == "down":
			down++
		case what == "no transaction":
			l.add(i+1, "transaction", "NO TRANSACTION leaves half a migration behind when it fails: take it out")
		}
	}
	if up != 1 {
		l.add(1, "annotations", "there should be one line -- +goose Up")
	}
	if down != 1 {
		l.add(1, "annotations", "there should be one line -- +goose Down, with the statements that undo Up")
	}
}

// annotation returns goose's command in a line, in lower case.
func annotation(line string) (what string, is bool) {
	line = strings.ToLower(strings.TrimSpace(line))
	rest, is := strings.CutPrefix(line, "--")
	if !is {
		return "", false
	}
	rest, is = strings.CutPrefix(strings.TrimSpace(rest), "+goose")
	return strings.TrimSpace(rest), is
}

// statement is one statement of a migration.
type statement struct {
	down    bool
	bracket bool // between StatementBegin and StatementEnd
	tokens  []token
}

// starts reports whether the statement begins with these words.
func (s statement) starts(words ...string) bool { return s.at(0, words...) }

// at reports whether these words stand at token i.
func (s statement) at(i int, words ...string) bool {
	if i < 0 || i+len(words) > len(s.tokens) {
		return false
	}
	for k, w := range words {
		if t := s.tokens[i+k]; t.quoted() || t.word() != w {
			return false
		}
	}
	return true
}

// find returns the tokens at which these words stand.
func (s statement) find(words ...string) []int {
	var at []int
	for i := range s.tokens {
		if s.at(i, words...) {
			at = append(at, i)
		}
	}
	return at
}

func (s statement) line() int { return s.tokens[0].line }

// statements splits a migration. The semicolons in a trigger's body do not end
// its statement.
func statements(sql string) []statement {
	sections := sectionsOf(sql)
	var all []statement
	var s statement
	depth := 0
	for _, t := range tokens(sql) {
		if t.text == ";" && depth == 0 {
			if len(s.tokens) > 0 {
				all = append(all, s)
			}
			s = statement{}
			continue
		}
		if len(s.tokens) == 0 {
			s.down, s.bracket = sections[t.line-1].down, sections[t.line-1].bracket
		}
		s.tokens = append(s.tokens, t)
		depth = max(0, depth+nesting(s, depth))
	}
	if len(s.tokens) > 0 {
		all = append(all, s)
	}
	return all
}

// nesting is the change of depth that the last token of s makes.
func nesting(s statement, depth int) int {
	last := len(s.tokens) - 1
	switch {
	case s.at(last, "begin") && s.isTrigger(), s.at(last, "case") && depth > 0:
		return 1
	case s.at(last, "end") && depth > 0:
		return -1
	}
	return 0
}

func (s statement) isTrigger() bool {
	return s.starts("create", "trigger") || s.starts("create", "temp", "trigger") || s.starts("create", "temporary", "trigger")
}

type section struct{ down, bracket bool }

// sectionsOf says for each line where it lies.
func sectionsOf(sql string) []section {
	var now section
	var all []section
	for _, line := range strings.Split(sql, "\n") {
		switch what, _ := annotation(line); what {
		case "up":
			now.down = false
		case "down":
			now.down = true
		case "statementbegin":
			now.bracket = true
		case "statementend":
			now.bracket = false
		}
		all = append(all, now)
	}
	return all
}
