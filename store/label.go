package store

import (
	"context"
	"database/sql"
	"slices"
)

// SetLabel moves a staging label to a version. Moving LabelCurrent puts
// LabelPrevious where it was.
func (s *Store) SetLabel(ctx context.Context, name, label string, version uint64) error {
	return s.write(ctx, func(t *tx) error { return t.setLabel(name, label, version) })
}

// SetLabelTx is SetLabel in the caller's transaction.
func (s *Store) SetLabelTx(ctx context.Context, caller *sql.Tx, name, label string, version uint64) error {
	return s.join(ctx, caller, func(t *tx) error { return t.setLabel(name, label, version) })
}

// RemoveLabel takes a staging label away. LabelCurrent is refused: it can only
// be moved.
func (s *Store) RemoveLabel(ctx context.Context, name, label string) error {
	return s.write(ctx, func(t *tx) error { return t.removeLabel(name, label) })
}

// RemoveLabelTx is RemoveLabel in the caller's transaction.
func (s *Store) RemoveLabelTx(ctx context.Context, caller *sql.Tx, name, label string) error {
	return s.join(ctx, caller, func(t *tx) error { return t.removeLabel(name, label) })
}

func (t *tx) setLabel(name, labelName string, number uint64) error {
	if err := firstError(CheckName(name), checkLabel(labelName)); err != nil {
		return err
	}
	sec, err := t.liveSecret("label", name)
	if err != nil {
		return err
	}
	row, id, err := t.version(sec, number)
	if err != nil {
		return err
	}
	was, _ := sec.label(labelName)
	if was.version == row {
		return nil
	}
	if err := t.moveLabel(sec, labelName, label{version: row, versionID: id, number: number}); err != nil {
		return err
	}
	t.audit(event{action: "label", secret: name, key: sec.keyName, detail: map[string]any{
		"label": labelName, "version": number, "from_version": was.number,
	}})
	return t.saveSecret(sec)
}

func (t *tx) removeLabel(name, labelName string) error {
	if err := firstError(CheckName(name), checkLabel(labelName)); err != nil {
		return err
	}
	if labelName == LabelCurrent {
		return invalid("label %q can be moved to another version, not removed", LabelCurrent)
	}
	sec, err := t.liveSecret("label", name)
	if err != nil {
		return err
	}
	was, ok := sec.label(labelName)
	if !ok {
		return noLabel("label", sec, labelName)
	}
	if err := t.dropLabel(sec, labelName); err != nil {
		return err
	}
	t.audit(event{action: "label-remove", secret: name, key: sec.keyName, detail: map[string]any{
		"label": labelName, "version": was.number,
	}})
	return t.saveSecret(sec)
}

const upsertLabel = `
	INSERT INTO reseal_labels (secret, label, secret_version)
	VALUES (?, ?, ?)
	ON CONFLICT (secret, label) DO UPDATE SET secret_version = excluded.secret_version`

// moveLabel puts a label on a version, in the table and in sec. The caller
// saves sec.
func (t *tx) moveLabel(sec *secret, name string, to label) error {
	was, had := sec.label(name)
	if had && was.version == to.version {
		return nil
	}
	if _, err := t.exec(upsertLabel, sec.row, name, to.version); err != nil {
		return err
	}
	to.label = name
	sec.labels = slices.DeleteFunc(sec.labels, func(l label) bool { return l.label == name })
	sec.labels = append(sec.labels, to)
	if name == LabelCurrent && had {
		return t.moveLabel(sec, LabelPrevious, was)
	}
	return nil
}

func (t *tx) dropLabel(sec *secret, name string) error {
	sec.labels = slices.DeleteFunc(sec.labels, func(l label) bool { return l.label == name })
	return t.execOne(`DELETE FROM reseal_labels WHERE secret = ? AND label = ?`, sec.row, name)
}
