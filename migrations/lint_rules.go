package migrations

import (
	"slices"
	"strings"
)

// statement applies every rule that concerns one statement.
func (l *linter) statement(s statement) {
	l.control(s)
	l.created(s)
	l.tables(s)
	l.rebuild(s)
	l.cascade(s)
	l.rows(s)
	l.checks(s)
}

// control refuses what a transaction cannot hold, and what would end it.
func (l *linter) control(s statement) {
	for _, word := range []string{"begin", "commit", "end", "rollback", "savepoint", "release", "vacuum", "attach", "detach"} {
		if s.starts(word) {
			l.add(s.line(), "transaction", strings.ToUpper(word)+" interferes with the transaction that every migration runs in")
		}
	}
	if s.starts("pragma") {
		l.add(s.line(), "pragma", "a PRAGMA changes the host's connection, or does nothing inside a transaction")
	}
	if s.isTrigger() && !s.bracket {
		l.add(s.line(), "annotations", "put the trigger between -- +goose StatementBegin and StatementEnd, or it is cut at its first semicolon")
	}
}

// created checks the names of new objects.
func (l *linter) created(s statement) {
	if !s.starts("create") {
		return
	}
	if s.at(1, "temp") || s.at(1, "temporary") {
		l.add(s.line(), "prefix", "a temporary object is gone with the connection, and hides reseal's own")
		return
	}
	i := 1
	if s.at(i, "unique") || s.at(i, "virtual") {
		i++
	}
	i++ // table, index, trigger, view
	if s.at(i, "if", "not", "exists") {
		l.add(s.line(), "exists", "IF NOT EXISTS takes somebody else's object for reseal's: take it out")
		i += 3
	}
	if i < len(s.tokens) && !isOurs(s.tokens[i].word()) {
		l.add(s.line(), "prefix", "name it reseal_…: it may live in a host application's database")
	}
}

// tables checks that new tables are STRICT.
func (l *linter) tables(s statement) {
	if !s.starts("create", "table") {
		return
	}
	end := len(s.tokens) - 1
	for end >= 0 && s.tokens[end].text != ")" {
		if s.at(end, "strict") {
			return
		}
		end--
	}
	l.add(s.line(), "strict", "a table that is not STRICT takes text where an integer or a blob belongs")
}

// rebuild refuses dropping and renaming tables in the Up part.
func (l *linter) rebuild(s statement) {
	if s.down {
		return
	}
	if s.starts("drop", "table") {
		l.add(s.line(), "rebuild", "DROP TABLE takes the rows, its triggers, and with ON DELETE CASCADE the rows of others along")
	}
	if s.starts("alter", "table") && len(s.find("rename", "to")) > 0 {
		l.add(s.line(), "rebuild", "RENAME TO rewrites references in other tables and triggers: add columns instead")
	}
}

// dropped refuses a trigger that goes without a successor of its name.
func (l *linter) dropped(all []statement) {
	for _, s := range all {
		if s.down || !s.starts("drop", "trigger") {
			continue
		}
		name := s.tokens[len(s.tokens)-1].word()
		again := func(o statement) bool {
			return !o.down && o.starts("create", "trigger") && len(o.tokens) > 2 && o.tokens[2].word() == name
		}
		if !slices.ContainsFunc(all, again) {
			l.add(s.line(), "rebuild", "the rule of trigger "+name+" is gone: create its successor in the same migration")
		}
	}
}

// cascade refuses foreign keys that delete or change rows by themselves.
func (l *linter) cascade(s statement) {
	for _, event := range []string{"delete", "update"} {
		for _, action := range [][]string{{"cascade"}, {"set", "null"}, {"set", "default"}} {
			for _, i := range s.find(append([]string{"on", event}, action...)...) {
				l.add(s.tokens[i].line, "cascade", "ON "+strings.ToUpper(event+" "+strings.Join(action, " "))+" loses rows that nobody named: use RESTRICT")
			}
		}
	}
}

// rows refuses statements on rows that a migration has no business with.
func (l *linter) rows(s statement) {
	if s.starts("replace") || s.starts("insert", "or", "replace") || s.starts("update", "or", "replace") {
		l.add(s.line(), "replace", "REPLACE deletes rows without firing their triggers")
	}
	if !s.starts("update") {
		return
	}
	for _, column := range []string{"wrapped", "sealed", "integrity_wrapped"} {
		for _, i := range s.find(column, "=") {
			l.add(s.tokens[i].line, "ciphertext", "a migration never rewrites a ciphertext: it has no keys to do it with")
		}
	}
}

// checks looks at each CHECK for expressions that are never false.
func (l *linter) checks(s statement) {
	for _, i := range s.find("check", "(") {
		inside := s.parenthesis(i + 1)
		if why := neverFalse(inside); why != "" {
			l.add(s.tokens[i].line, "empty-check", "this CHECK can never refuse: "+why)
		}
	}
}

// parenthesis returns what stands between the parenthesis at token i and its
// partner.
func (s statement) parenthesis(i int) statement {
	depth := 0
	for k := i; k < len(s.tokens); k++ {
		switch s.tokens[k].text {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth == 0 {
			return statement{tokens: s.tokens[i+1 : k]}
		}
	}
	return statement{tokens: s.tokens[i+1:]}
}

// neverFalse says why an expression can never be false, "" if it may be.
func neverFalse(s statement) string {
	if len(s.tokens) == 1 {
		return "it is one word"
	}
	for i := range s.tokens {
		if s.at(i, "length", "(") && s.parenthesis(i+1).compares() {
			return "length(… > …) is the length of a comparison's result, which is 1"
		}
		if i == 0 && s.at(i, "length", "(") && s.afterParenthesis(i+1, ">", "=", "0") {
			return "no length is below 0"
		}
		if s.at(i, "in", "(") && s.parenthesis(i+1).lists("null") {
			return "with NULL in its list, IN is unknown and never false"
		}
		for _, sign := range []string{"=", ">", "<"} {
			if s.at(i, sign, "null") {
				return "a comparison with NULL is unknown: use IS NULL"
			}
		}
	}
	return ""
}

// afterParenthesis reports whether these words follow the parenthesis at token i
// and its partner, and nothing after them.
func (s statement) afterParenthesis(i int, words ...string) bool {
	end := i + len(s.parenthesis(i).tokens) + 2
	return s.at(end, words...) && len(s.tokens) == end+len(words)
}

// compares reports whether there is a comparison outside all parentheses.
func (s statement) compares() bool {
	depth := 0
	for _, t := range s.tokens {
		switch t.text {
		case "(":
			depth++
		case ")":
			depth--
		case "<", ">", "=":
			if depth == 0 {
				return true
			}
		}
	}
	return false
}

// lists reports whether a word stands by itself in a list.
func (s statement) lists(word string) bool {
	for _, i := range s.find(word) {
		first := i == 0 || s.tokens[i-1].text == ","
		last := i == len(s.tokens)-1 || s.tokens[i+1].text == ","
		if first && last {
			return true
		}
	}
	return false
}
