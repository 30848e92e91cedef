package main

import "testing"

func TestJSONRefusesWhatIsNotText(t *testing.T) {
	for why, src := range map[string]string{
		"half a pair":         `{"a": "\ud800"}`,
		"not UTF-8":           "{\"a\": \"\xff\"}",
		"an array":            `["a"]`,
		"a second object":     `{"a": "b"} {"c": "d"}`,
		"null":                `{"a": null}`,
		"an array inside":     `{"a": ["b"]}`,
		"cut":                 `{"a": "b"`,
		"half a pair of AWS":  `{"SecretValues": [{"Name": "a", "SecretString": "\udc00"}]}`,
		"no value of AWS":     `{"SecretValues": [{"Name": "a"}]}`,
		"bad base64 of AWS":   `{"SecretValues": [{"Name": "a", "SecretBinary": "?"}]}`,
		"a number as a name":  `{"SecretValues": [{"Name": 1, "SecretString": "b"}]}`,
		"nested value, Vault": `{"request_id": "1", "data": {"a": {"b": "c"}}}`,
	} {
		if got, err := parseJSON([]byte(src), true); err == nil {
			t.Errorf("%s: read as %v", why, values(got))
		}
	}
}

func TestJSONKeepsTextAsItIs(t *testing.T) {
	got, err := parseJSON([]byte("\ufeff"+`{"a": "\ufffd", "b": "😀", "c": 1.50, "SecretValues": "s", "data": "d", "request_id": "r"}`), false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "\ufffd", "b": "😀", "c": "1.50", "SecretValues": "s", "data": "d", "request_id": "r"}
	for k, v := range values(got) {
		if want[k] != v {
			t.Errorf("%s = %q, want %q", k, v, want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d values, want %d", len(got), len(want))
	}
}

func FuzzImportJSON(f *testing.F) {
	for _, s := range []string{`{"a":"b"}`, `{"SecretValues":[{"Name":"a","SecretString":"b"}]}`, `{"request_id":"1","data":{"data":{"a":1},"metadata":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		pairs, err := parseJSON(src, true)
		if err != nil && pairs != nil {
			t.Error("values with an error")
		}
	})
}
