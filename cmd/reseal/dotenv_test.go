package main

import (
	"errors"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/joho/godotenv"
	"pgregory.net/rapid"
)

func values(pairs []pair) map[string]string {
	out := map[string]string{}
	for _, p := range pairs {
		out[p.name] = string(p.value)
	}
	return out
}

func TestDotenvReadsWhatIsMeant(t *testing.T) {
	for _, c := range []struct {
		why, src string
		dollar   dollar
		want     map[string]string
	}{
		{"nothing", "", dollarAsk, map[string]string{}},
		{"comments and blank lines", "# a\n\n  # b\n", dollarAsk, map[string]string{}},
		{"a last line without an end", "A=1", dollarAsk, map[string]string{"A": "1"}},
		{"a byte order mark", "\ufeffA=1", dollarAsk, map[string]string{"A": "1"}},
		{"white space", " A =  b c \t\n", dollarAsk, map[string]string{"A": "b c"}},
		{"export", "export A=1\nexport\tB=2\nexport=3\n", dollarAsk, map[string]string{"A": "1", "B": "2", "export": "3"}},
		{"an empty value", "A=\nB=''\nC=\"\"\n", dollarAsk, map[string]string{"A": "", "B": "", "C": ""}},
		{"no comment without white space", "A=b#c\n", dollarAsk, map[string]string{"A": "b#c"}},
		{"the first comment counts", "A=b # c # d\n", dollarAsk, map[string]string{"A": "b"}},
		{"only a comment", "A=# c\n", dollarAsk, map[string]string{"A": ""}},
		{"a comment after quotes", "A='b' # c\nB=\"d\"#e\n", dollarAsk, map[string]string{"A": "b", "B": "d"}},
		{"equals signs", "A=b=c==\n", dollarAsk, map[string]string{"A": "b=c=="}},
		{"quotes inside", "A=it's\nB='\"'\nC=\"'\"\n", dollarAsk, map[string]string{"A": "it's", "B": `"`, "C": "'"}},
		{"a quote at the end", `A="b\""`, dollarAsk, map[string]string{"A": `b"`}},
		{"doubled quotes at the start", `A="\"\"b"`, dollarAsk, map[string]string{"A": `""b`}},
		{"escapes", `A="\n\r\t\\\"\$\` + "`" + `\d"`, dollarAsk, map[string]string{"A": "\n\r\t\\\"$`\\d"}},
		{"no escapes", `A='\n\\ '` + "\n" + `B=\n`, dollarAsk, map[string]string{"A": `\n\\ `, "B": `\n`}},
		{"line ends of Windows", "A=1\r\nB='2\r\n3'\r\nC=\"4\r\n5\"\r\n", dollarAsk, map[string]string{"A": "1", "B": "2\n3", "C": "4\n5"}},
		{"a dollar that is no reference", "A=pa$$ $ 5$\nB=\"$1 $\"\n", dollarAsk, map[string]string{"A": "pa$$ $ 5$", "B": "$1 $"}},
		{"a reference in single quotes", "A='$B ${C}'\n", dollarAsk, map[string]string{"A": "$B ${C}"}},
		{"a reference as it stands", "A=x$B\nC=\"${D}\"\n", dollarLiteral, map[string]string{"A": "x$B", "C": "${D}"}},
		{"a reference expanded", "B=1\nA=x$B.${B}y\n", dollarExpand, map[string]string{"A": "x1.1y", "B": "1"}},
		{"an escaped reference", `A="\$B"`, dollarAsk, map[string]string{"A": "$B"}},
	} {
		got, err := parseDotenv([]byte(c.src), c.dollar)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		if diff := cmp.Diff(c.want, values(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestDotenvRefusesWhatIsNotClear(t *testing.T) {
	for _, c := range []struct {
		why, src string
		dollar   dollar
	}{
		{"a reference", "A=$B", dollarAsk},
		{"a reference in braces", "A=\"x${B}\"", dollarAsk},
		{"a command", "A=$(id)", dollarAsk},
		{"a reference to nothing", "A=$B", dollarExpand},
		{"a reference to what comes later", "A=$B\nB=1", dollarExpand},
		{"a default", "B=1\nA=${B:-2}", dollarExpand},
		{"a command to expand", "A=$(id)", dollarExpand},
		{"no equals sign", "A", dollarAsk},
		{"a colon", "A: 1", dollarAsk},
		{"no name", "=1", dollarAsk},
		{"a digit first", "1A=1", dollarAsk},
		{"two words", "A B=1", dollarAsk},
		{"an open quote", "A='1", dollarAsk},
		{"another open quote", "A=\"1\\\"", dollarAsk},
		{"an escaped single quote", `A='it\'s'`, dollarAsk},
		{"text after a quote", "A='1'2", dollarAsk},
		{"a back quote", "A=`id`", dollarAsk},
		{"a name twice", "A=1\nA=1", dollarAsk},
	} {
		if got, err := parseDotenv([]byte(c.src), c.dollar); err == nil {
			t.Errorf("%s: read as %v", c.why, values(got))
		}
	}
	if _, err := parseDotenv([]byte("A=$B"), dollarAsk); !errors.Is(err, errDollar) {
		t.Errorf("a reference: %v, want errDollar", err)
	}
}

// TestDotenvRoundTrip writes any values and reads them back; and the common Go
// reader gets the same, but for what it is known to change.
func TestDotenvRoundTrip(t *testing.T) {
	text := rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("ab'\"\\$`#= \n\r\t{}()é!"))),
	).Filter(func(s string) bool { return utf8.ValidString(s) && !slices.Contains([]byte(s), 0) })
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{"A": text.Draw(t, "A"), "B_1": text.Draw(t, "B")}
		var file []byte
		for _, name := range []string{"A", "B_1"} {
			var err error
			if file, err = appendDotenv(file, name, []byte(want[name])); err != nil {
				t.Fatal(err)
			}
		}
		got, err := parseDotenv(file, dollarAsk)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, file)
		}
		if diff := cmp.Diff(want, values(got)); diff != "" {
			t.Fatalf("(-want +got):\n%s\n%s", diff, file)
		}
	})
}

func TestDotenvAgreesWithAnotherReader(t *testing.T) {
	value := rapid.StringMatching(`[a-zA-Z0-9 _#=:/,.é-]*`)
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "value")
		file, err := appendDotenv(nil, "A", []byte(v))
		if err != nil {
			t.Fatal(err)
		}
		got, err := godotenv.UnmarshalBytes(file)
		if err != nil || got["A"] != v {
			t.Fatalf("%q was written as %q and read as %q, %v", v, file, got["A"], err)
		}
	})
}

func TestDotenvCannotHoldEverything(t *testing.T) {
	for why, c := range map[string]pair{
		"NUL":             {name: "A", value: []byte("a\x00b")},
		"bytes":           {name: "A", value: []byte{0xff}},
		"a slash":         {name: "a/b", value: []byte("1")},
		"no name":         {name: "", value: []byte("1")},
		"a digit first":   {name: "1a", value: []byte("1")},
		"a dash":          {name: "a-b", value: []byte("1")},
		"another letter":  {name: "é", value: []byte("1")},
		"an equals sign":  {name: "a=b", value: []byte("1")},
		"an at character": {name: "a@b", value: []byte("1")},
	} {
		if out, err := appendDotenv(nil, c.name, c.value); err == nil {
			t.Errorf("%s: written as %q", why, out)
		}
	}
}

func FuzzDotenv(f *testing.F) {
	for _, s := range []string{"A=1", "export A='1'", "A=\"\\n${B}\"", "A=$B", "A=\"1\\", "A=${"} {
		f.Add([]byte(s), 0)
	}
	f.Fuzz(func(t *testing.T, src []byte, d int) {
		pairs, err := parseDotenv(src, dollar(uint(d)%3))
		if err != nil {
			return
		}
		for _, p := range pairs {
			if p.name == "" {
				t.Error("a value without a name")
			}
		}
	})
}
