package migrations

import (
	"testing"
)

func TestReleasedMigrationsAreNotEdited(t *testing.T) {
	if len(released) != len(builtin.migrations) {
		t.Fatalf("released lists %d versions, and there are %d files", len(released), len(builtin.migrations))
	}
	for i, m := range builtin.migrations {
		all, err := builtin.reference(t.Context(), m.Version)
		if err != nil {
			t.Fatal(err)
		}
		want := release{version: m.Version, file: m.SHA256, schema: all.fingerprint()}
		if released[i] != want {
			t.Errorf("%s was edited, or is new; if it was never released, the entry is\n\t{\n\t\tversion: %d,\n\t\tfile:    %q,\n\t\tschema:  %q,\n\t},", m.Name, want.version, want.file, want.schema)
		}
	}
}
