package store_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/reseal/reseal/store"
)

// A receipt's MAC is the one that docs/format.md publishes, member for member.
func TestReceiptTagIsThePublishedOne(t *testing.T) {
	var vectors struct {
		Tags []struct {
			Name   string
			Key    string
			Record string
			Tag    string
			Fields []map[string]string
		}
	}
	text := must(os.ReadFile("../crypto/testdata/vectors.json"))(t)
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	began, ended := time.UnixMilli(1_790_000_100_000), time.UnixMilli(1_790_000_123_456)
	for i, rc := range []store.Receipt{
		{
			Mode: "reencrypt", From: "mk-1", To: "mk-2", ToVersion: 3, Prefix: "prod/", MadeBefore: time.UnixMilli(1_790_000_000_000),
			Moved: 10_000, Checked: 10_002, Failures: 2, Checkpointed: true, Scrubbed: true, StartedAt: began, FinishedAt: ended,
			Residue: store.Residue{Method: "all", LookedFor: 10_000, Found: 7, Proven: true, Files: []store.ResidueFile{
				{Name: "reseal.db", Bytes: 8_388_608, Found: 7}, {Name: "reseal.db-wal", Bytes: 4_152, Found: 1},
			}},
		},
		{
			Mode: "rewrap", From: "mk-1", To: "mk-1", ToVersion: 2, Verified: true, StartedAt: began, FinishedAt: ended,
			Residue: store.Residue{Method: "none", Detail: "the file is the host's"},
		},
	} {
		v := vectors.Tags[i]
		rc.StoreID, rc.Job = v.Fields[1]["id"], v.Fields[2]["id"]
		for _, f := range v.Fields {
			if digits := f["text"]; len(digits) == 64 {
				rc.Digest = digits
			}
		}
		record, tag, err := store.ReceiptTag(must(hex.DecodeString(v.Key))(t), rc)
		if err != nil {
			t.Fatal(err)
		}
		if want := must(hex.DecodeString(v.Record))(t); !bytes.Equal(record, want) {
			t.Errorf("%s: record %x, want %x", v.Name, record, want)
		}
		if want := must(hex.DecodeString(v.Tag))(t); !bytes.Equal(tag, want) {
			t.Errorf("%s: tag %x, want %x", v.Name, tag, want)
		}
	}
}
