package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) unsealCommand() *cobra.Command {
	return a.noun("unseal", "The ways to unseal the store, and the root key", "  reseal unseal list",
		a.unsealList(), a.unsealAdd(), a.unsealRemove(), a.unsealRotateRoot())
}

type jsonSlot struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	Label     string `json:"label"`
	KDF       string `json:"kdf"` // "" for a key file
	CreatedAt stamp  `json:"created_at"`
	Unsealed  bool   `json:"unsealed"`
}

func slotJSON(s store.SlotInfo) jsonSlot {
	return jsonSlot{s.ID, s.Kind, s.Label, s.KDF, stamp{s.CreatedAt}, s.Unsealed}
}

func slotsJSON(slots []store.SlotInfo) []jsonSlot {
	out := []jsonSlot{}
	for _, s := range slots {
		out = append(out, slotJSON(s))
	}
	return out
}

func slotName(s store.SlotInfo) string {
	if s.Label == "" {
		return fmt.Sprintf("%s (%s)", s.ID, s.Kind)
	}
	return fmt.Sprintf("%s (%s, %s)", s.ID, s.Kind, s.Label)
}

func (a *app) unsealList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the unseal slots",
		Long:    "List the unseal slots: the ways to obtain the root key. Works without unsealing.",
		Example: `  reseal unseal list`,
		Args:    takes(),
		RunE: a.runs(func(ctx context.Context, _ []string) error {
			return a.readable(ctx, func(s *store.Store) error {
				slots, err := s.Slots(ctx)
				if err != nil {
					return err
				}
				a.noteRecorded(s)
				return a.emit(slotsJSON(slots), func(w io.Writer) { slotTable(w, slots) })
			})
		}),
	}
}

func slotTable(w io.Writer, slots []store.SlotInfo) {
	var rows [][]string
	for _, s := range slots {
		used := ""
		if s.Unsealed {
			used = "in use now"
		}
		rows = append(rows, []string{s.ID[:12], s.Kind, dash(s.Label), dash(s.KDF), date(s.CreatedAt), used})
	}
	table(w, "SLOT KIND LABEL KDF CREATED NOTE", rows)
}

func (a *app) unsealAdd() *cobra.Command {
	var keyFile, passphraseFile, label string
	c := &cobra.Command{
		Use:   "add",
		Short: "Add a way to unseal the store",
		Long: `Add an unseal slot: a new key file, written to --new-key-file, or a passphrase,
from --new-passphrase-file or asked for twice. The store then opens with any of
its slots. Keep a recovery key where the store is not.`,
		Example: `  reseal unseal add --new-key-file recovery.key --label recovery`,
		Args:    takes(),
	}
	c.Flags().StringVar(&keyFile, "new-key-file", "", "write a new random key to this `file`, which must not exist")
	c.Flags().StringVar(&passphraseFile, "new-passphrase-file", "", "read the new passphrase from this `file`")
	c.Flags().StringVar(&label, "label", "", "`text` that says what the slot is for")
	c.MarkFlagsMutuallyExclusive("new-key-file", "new-passphrase-file")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		src := source{keyFile: keyFile, passphraseFile: passphraseFile}
		if err := src.usable(); err != nil {
			return err
		}
		return a.unsealed(ctx, func(s *store.Store) error { return a.addSlot(ctx, s, src, label) })
	})
	return c
}

const giveNew = "give --new-key-file or --new-passphrase-file"

// usable finds what is wrong with the source of a new slot before the store is
// unsealed for it.
func (s source) usable() error {
	if s.passphraseFile == "" {
		return freePath(s.keyFile)
	}
	_, err := s.credential()
	var c *cliError
	if errors.As(err, &c) && errors.Is(err, fs.ErrNotExist) {
		c.remedy = giveNew
	}
	return err
}

func (a *app) addSlot(ctx context.Context, s *store.Store, src source, label string) error {
	cred, written, err := a.credentialFor(ctx, src, giveNew)
	if err != nil {
		return err
	}
	slot, err := s.AddSlot(ctx, cred, label)
	if err != nil {
		removeNew(written)
		return err
	}
	return a.say(slotJSON(slot), "slot %s added", slotName(slot))
}

// credentialFor returns the credential of a new slot, asking for a passphrase if
// the source is empty, and the path of the key file if it wrote one. Remedy
// names what gives it where there is no terminal.
func (a *app) credentialFor(ctx context.Context, src source, remedy string) (cred store.Credential, written string, err error) {
	if src.keyFile != "" {
		cred, err := store.NewKeyFile(src.keyFile)
		if err != nil {
			err = makeError(fmt.Sprintf("key file %q", src.keyFile), plainError(err))
		}
		return cred, src.keyFile, err
	}
	if src.none() {
		if src, err = a.askNew(ctx, remedy); err != nil {
			return cred, "", err
		}
	}
	cred, err = src.credential()
	return cred, "", err
}

func (a *app) unsealRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove SLOT",
		Short: "Remove a way to unseal the store",
		Long: `Remove an unseal slot, named by its id or the first 6 or more digits of it. The
last one is refused.

This does not revoke what an older copy of the store gives to whoever has that
copy and the slot's key. When somebody must lose access: reseal unseal
rotate-root, and store new values.`,
		Example: `  reseal unseal remove 0a1b2c3d`,
		Args:    takes("SLOT"),
		RunE: a.runs(func(ctx context.Context, args []string) error {
			return a.unsealed(ctx, func(s *store.Store) error {
				slots, err := s.Slots(ctx)
				if err != nil {
					return err
				}
				if err := s.RemoveSlot(ctx, args[0]); err != nil {
					return err
				}
				slot, _ := slotByPrefix(slots, args[0])
				res := struct {
					Slot    string `json:"slot"`
					Removed bool   `json:"removed"`
				}{slot.ID, true}
				return a.say(res, "slot %s removed; older copies of the store still open with it", slotName(slot))
			})
		}),
	}
}

func (a *app) unsealRotateRoot() *cobra.Command {
	var keep, drop []string
	c := &cobra.Command{
		Use:   "rotate-root",
		Short: "Replace the root key",
		Long: `Replace the root key: master keys are wrapped under a new one, and every slot that
is kept opens the new one with the same passphrase or key file as before. That
takes each slot's key: of the slot that unseals the store now it is known; name
the others with --slot SLOT=FILE (a key file, or a file with the passphrase), or
drop them with --drop-slot. A slot that is not named is refused, not lost.

If it is interrupted, run it again: it finishes or begins anew. Older copies of
the store open as before; if the root key may have leaked, store new values.`,
		Example: `  reseal unseal rotate-root`,
		Args:    takes(),
	}
	c.Flags().StringArrayVar(&keep, "slot", nil, "keep the slot `SLOT=FILE`, whose key is in that file; may be repeated")
	c.Flags().StringArrayVar(&drop, "drop-slot", nil, "drop this `slot`; may be repeated")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		return a.unsealed(ctx, func(s *store.Store) error { return a.rotateRoot(ctx, s, keep, drop) })
	})
	return c
}

type jsonRootRotation struct {
	Kept              []jsonSlot `json:"kept"`
	Dropped           []jsonSlot `json:"dropped"`
	MasterKeyVersions int        `json:"master_key_versions"`
	Resumed           bool       `json:"resumed"`
	Truncated         bool       `json:"truncated"`
}

func (a *app) rotateRoot(ctx context.Context, s *store.Store, keep, drop []string) error {
	slots, err := s.Slots(ctx)
	if err != nil {
		return err
	}
	creds, err := a.slotCredentials(slots, keep, drop)
	if err != nil {
		return err
	}
	res, err := s.RotateRoot(ctx, store.RotateRootOptions{Credentials: creds, Drop: drop})
	if err != nil {
		return err
	}
	out := jsonRootRotation{slotsJSON(res.Kept), slotsJSON(res.Dropped), res.MasterKeyVersions, res.Resumed, res.Truncated}
	if !res.Truncated {
		a.warn("another process reads the store: until it ends, the old wraps stay in the database's log")
	}
	return a.emit(out, func(w io.Writer) {
		fmt.Fprintf(w, "the root key was replaced: %s wrapped anew\n", plural(int64(res.MasterKeyVersions), "master key version"))
		for _, s := range res.Kept {
			fmt.Fprintf(w, "kept     %s\n", slotName(s))
		}
		for _, s := range res.Dropped {
			fmt.Fprintf(w, "dropped  %s\n", slotName(s))
		}
	})
}

// slotCredentials returns the credentials of the slots that are kept: those
// named, and the one that unsealed the store.
func (a *app) slotCredentials(slots []store.SlotInfo, keep, drop []string) (map[string]store.Credential, error) {
	creds := map[string]store.Credential{}
	for _, pair := range keep {
		id, file, ok := strings.Cut(pair, "=")
		slot, found := slotByPrefix(slots, id)
		if !ok || file == "" || !found {
			return nil, usagef("reseal unseal list", "--slot %q: write SLOT=FILE, with the id of one slot or 6 or more digits of it", id)
		}
		src := source{keyFile: file}
		if slot.Kind == "passphrase" {
			src = source{passphraseFile: file}
		}
		cred, err := src.credential()
		if err != nil {
			return nil, err
		}
		creds[slot.ID] = cred
	}
	for _, s := range slots {
		if _, given := creds[s.ID]; s.Unsealed && !given && !dropped(s.ID, drop) {
			creds[s.ID] = a.cred
		}
	}
	return creds, nil
}

func slotByPrefix(slots []store.SlotInfo, id string) (found store.SlotInfo, ok bool) {
	for _, s := range slots {
		if len(id) >= 6 && strings.HasPrefix(s.ID, strings.ToLower(id)) {
			if ok {
				return store.SlotInfo{}, false
			}
			found, ok = s, true
		}
	}
	return found, ok
}

func dropped(id string, drop []string) bool {
	for _, d := range drop {
		if len(d) >= 6 && strings.HasPrefix(id, strings.ToLower(d)) {
			return true
		}
	}
	return false
}
