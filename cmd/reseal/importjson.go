package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// errNeedsPrefix is returned for a file that holds names but not the path that
// they lie under.
var errNeedsPrefix = errors.New("the output of vault kv get does not say which secret it is: name it with --prefix, such as --prefix app/db/")

// errNotJSON hides the text around a mistake, which may be a value.
var errNotJSON = errors.New("it is not a JSON object")

// member is one member of a JSON object, in the file's order.
type member struct {
	name string
	raw  json.RawMessage
}

// members reads a JSON object. A name that is there twice is an error, which
// encoding/json would not see.
func members(src []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(src))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotJSON
	}
	var out []member
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errNotJSON
		}
		if seen[name] {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		m := member{name: name}
		if err := dec.Decode(&m.raw); err != nil {
			return nil, errNotJSON
		}
		out = append(out, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errNotJSON
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is something after the JSON object")
	}
	return out, nil
}

func find(ms []member, name string) json.RawMessage {
	for _, m := range ms {
		if m.name == name {
			return m.raw
		}
	}
	return nil
}

func kind(raw json.RawMessage) byte {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		return 0
	}
	return raw[0]
}

// parseJSON reads a flat JSON object, the output of aws secretsmanager
// batch-get-secret-value, or that of vault kv get -format=json. Which it is
// shows in its form: a flat object has no arrays and objects in it.
func parseJSON(src []byte, hasPrefix bool) ([]pair, error) {
	if !utf8.Valid(src) {
		return nil, errors.New("it is not UTF-8 text")
	}
	top, err := members(bytes.TrimPrefix(src, []byte("\ufeff")))
	if err != nil {
		return nil, err
	}
	if kind(find(top, "SecretValues")) == '[' {
		return parseAWS(top)
	}
	if data := find(top, "data"); kind(data) == '{' && find(top, "request_id") != nil {
		if !hasPrefix {
			return nil, errNeedsPrefix
		}
		return parseVault(data)
	}
	return flat(top)
}

// flat reads strings, and numbers and booleans as they are written.
func flat(ms []member) ([]pair, error) {
	var out []pair
	for _, m := range ms {
		var value string
		switch kind(m.raw) {
		case '"':
			var err error
			if value, err = jsonText(m.raw); err != nil {
				return nil, fmt.Errorf("%q: %w", m.name, err)
			}
		case '{', '[', 'n':
			return nil, fmt.Errorf("%q is not a string, a number, true or false", m.name)
		default:
			value = string(bytes.TrimSpace(m.raw))
		}
		out = append(out, pair{name: m.name, value: []byte(value)})
	}
	return out, nil
}

// jsonText reads a JSON string. Half a surrogate pair, which encoding/json would
// silently replace, is an error.
func jsonText(raw json.RawMessage) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errNotJSON
	}
	written := bytes.Contains(raw, []byte("\ufffd")) || bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`))
	if strings.ContainsRune(s, '\ufffd') && !written {
		return "", errors.New("the value is not valid text")
	}
	return s, nil
}

// parseVault reads the data of version 2 of the key-value engine, which has the
// values in another data, or of version 1.
func parseVault(data json.RawMessage) ([]pair, error) {
	ms, err := members(data)
	if err != nil {
		return nil, err
	}
	if inner := find(ms, "data"); kind(inner) == '{' && kind(find(ms, "metadata")) == '{' {
		if ms, err = members(inner); err != nil {
			return nil, err
		}
	}
	return flat(ms)
}

func parseAWS(top []member) ([]pair, error) {
	var page struct {
		SecretValues []struct {
			Name         string
			SecretString json.RawMessage
			SecretBinary *string
		}
		Errors []struct{ SecretId, ErrorCode string }
	}
	for name, into := range map[string]any{"SecretValues": &page.SecretValues, "Errors": &page.Errors} {
		if raw := find(top, name); raw != nil && json.Unmarshal(raw, into) != nil {
			return nil, fmt.Errorf("%s is not as aws secretsmanager batch-get-secret-value writes it", name)
		}
	}
	if len(page.Errors) > 0 {
		return nil, fmt.Errorf("the file lists %s that could not be read, the first is %q (%s): get them all and import again",
			plural(int64(len(page.Errors)), "secret"), page.Errors[0].SecretId, page.Errors[0].ErrorCode)
	}
	if t := find(top, "NextToken"); kind(t) == '"' && string(t) != `""` {
		return nil, errors.New("the file is one page of several: it has a NextToken")
	}
	var out []pair
	for _, s := range page.SecretValues {
		p := pair{name: s.Name}
		switch {
		case kind(s.SecretString) == '"':
			text, err := jsonText(s.SecretString)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", s.Name, err)
			}
			p.value = []byte(text)
		case s.SecretBinary != nil:
			raw, err := base64.StdEncoding.DecodeString(*s.SecretBinary)
			if err != nil {
				return nil, fmt.Errorf("%q: SecretBinary is not base64", s.Name)
			}
			p.value = raw
		default:
			return nil, fmt.Errorf("%q has no SecretString and no SecretBinary", s.Name)
		}
		out = append(out, p)
	}
	return out, nil
}
