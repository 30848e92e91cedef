package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Explanation is the chain from a secret to its value, link by link: where it
// breaks, and the command that fixes it.
type Explanation struct {
	Secret              string
	Version             uint64
	Labels              []string
	ConfiguredKey       string
	EffectiveKey        string
	EffectiveKeyVersion uint64
	KeyState            KeyState
	Steps               []Step // as far as they could be followed
	Broken              bool   // some step is not OK
	Remedy              string // the command for the first that is not; "" if all are
}

// Step is one link of the chain.
type Step struct {
	What   string // "secret", "version", "data key", "master key version", "state", "root" or "value"
	OK     bool
	Detail string // one clause: what was found
}

// Explain follows the chain from a secret through a version (0 is the current
// one), its data key, the master key version that wraps it, that key's state and
// its wrap under the root key, to the value, which it opens whatever the state.
// What is broken on the way is in the Explanation and no error: that is what it
// is for. There is an error for a secret or version that does not exist, and
// when the file cannot be read.
func (s *Store) Explain(ctx context.Context, name string, version uint64) (Explanation, error) {
	if err := firstError(s.needUnsealed(), CheckName(name)); err != nil {
		return Explanation{}, err
	}
	var e Explanation
	err := s.snapshot(ctx, func(q querier) error {
		x := &explainer{s: s, ctx: context.WithoutCancel(ctx), q: q}
		err := x.explain(name, version)
		e = x.Explanation
		return err
	})
	return e, err
}

// explainer follows one chain. A link that cannot be followed further returns
// errBroken.
type explainer struct {
	Explanation
	s   *Store
	ctx context.Context
	q   querier
	sec *secret
	// movable says that the chain is broken at the state only, by an altered
	// record, so that another master key is the way out.
	movable bool
}

var errBroken = errors.New("the chain is broken here")

func (x *explainer) explain(name string, number uint64) error {
	err := x.secret(name)
	if err == nil {
		err = x.version(number)
	}
	if errors.Is(err, errBroken) {
		err = nil
	}
	if err == nil && x.movable {
		x.Remedy, err = x.rescue()
	}
	return err
}

func (x *explainer) ok(what, format string, args ...any) {
	x.Steps = append(x.Steps, Step{What: what, OK: true, Detail: fmt.Sprintf(format, args...)})
}

// broken adds a step that is not OK. Only the remedy of the first counts, but
// for an altered master key that can be left only if the rest is whole.
func (x *explainer) broken(what, remedy, format string, args ...any) {
	x.Steps = append(x.Steps, Step{What: what, Detail: fmt.Sprintf(format, args...)})
	if !x.Broken || x.movable {
		x.Remedy = remedy
	}
	x.Broken, x.movable = true, false
}

func (x *explainer) discard() string {
	return "reseal discard " + x.Secret + " --version " + formatNumber(x.Version)
}

func (x *explainer) secret(name string) error {
	sec, err := loadSecret(x.ctx, x.q, name)
	if err != nil {
		return err
	}
	if sec == nil {
		return x.s.absent(x.ctx, x.q, name)
	}
	x.sec, x.Secret, x.ConfiguredKey = sec, name, sec.keyName
	altered := x.s.keys.checkSecret(sec)
	switch {
	case sec.tombstone() && altered == nil:
		return noSecret(name)
	case altered != nil:
		x.broken("secret", restoreRemedy(x.ctx, x.q, name),
			"its record (configured key, dates, counts, labels) was altered by other means; go back to a backup, or give it up with reseal purge %s --now", name)
	case sec.deletedAt != 0:
		x.broken("secret", "reseal restore "+name, "deleted, may be purged from %s on", fromMillis(sec.purgeAt).Format(time.RFC3339))
	default:
		x.ok("secret", "its record is as reseal wrote it; configured key %q", sec.keyName)
	}
	return nil
}

// version finds the version's row, and counts those of the secret.
func (x *explainer) version(number uint64) error {
	versions, err := loadDataKeys(x.ctx, x.q, x.sec.row)
	if err != nil {
		return err
	}
	if number == 0 {
		l, ok := x.sec.label(LabelCurrent)
		if !ok {
			x.broken("version", x.makeCurrent(versions), "no version is labelled %q", LabelCurrent)
			return errBroken
		}
		number = l.number
	}
	x.Version = number
	for _, d := range versions {
		if d.number == number {
			x.Labels = x.sec.labelsOf(d.row)
			x.count(versions)
			return x.chain(d)
		}
	}
	if number != 0 && (int64(len(versions)) >= x.sec.versionCount || number >= x.sec.nextNumber) {
		return noVersion("explain", x.sec, number)
	}
	x.broken("version", x.discard(), "its row is gone: %s expected, %d found", plural(x.sec.versionCount, "version"), len(versions))
	return errBroken
}

// count compares the number of versions with the secret's record: the other
// verbs refuse while they differ.
func (x *explainer) count(versions []dataKey) {
	want, found := x.sec.versionCount, int64(len(versions))
	switch {
	case found == want:
		x.ok("version", "number %d, one of %d", x.Version, want)
	case found < want:
		x.broken("version", "reseal discard "+x.Secret+" --version "+formatNumber(x.missing(versions)),
			"number %d is there, but of %s only %d are", x.Version, plural(want, "version"), found)
	default:
		x.broken("version", restoreRemedy(x.ctx, x.q, x.Secret),
			"number %d is there, but there are %d versions and should be %d: some were added by other means", x.Version, found, want)
	}
}

// missing returns the newest number that no version has.
func (x *explainer) missing(versions []dataKey) uint64 {
	n := x.sec.nextNumber - 1
	for i := len(versions) - 1; i >= 0 && versions[i].number >= n; i-- {
		n = versions[i].number - 1
	}
	return max(n, 1)
}

func (x *explainer) makeCurrent(versions []dataKey) string {
	if len(versions) == 0 {
		return "reseal put " + x.Secret
	}
	return "reseal label " + x.Secret + " " + LabelCurrent + " --version " + formatNumber(versions[len(versions)-1].number)
}

// chain follows a version's data key to its master key version.
func (x *explainer) chain(d dataKey) error {
	if d.keyVersion == 0 {
		x.broken("data key", x.discard(), "missing")
		return errBroken
	}
	x.ok("data key", "there")
	k, kv, err := effective(x.ctx, x.q, d)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
		if err := x.misplaced(d); err != nil {
			return err
		}
		x.broken("master key version", x.discard(), "%s", missingLink(d.keyVersion))
		return errBroken
	}
	if err != nil {
		return err
	}
	x.EffectiveKey, x.EffectiveKeyVersion, x.KeyState = k.name, kv.number, k.versionState(kv)
	if k.row != x.sec.keyRow.Int64 && x.sec.keyRow.Valid {
		x.broken("master key version", "reseal set-key "+x.Secret+" "+x.ConfiguredKey,
			"version %d of %q, and the secret is configured with %q", kv.number, k.name, x.ConfiguredKey)
	} else {
		x.ok("master key version", "version %d of %q%s", kv.number, k.name, behind(k, kv))
	}
	x.state(k, kv)
	return x.value(d, k, kv)
}

func behind(k *masterKey, kv keyVersion) string {
	if kv.number == k.primary {
		return ""
	}
	return fmt.Sprintf(", behind its primary %d", k.primary)
}

func (x *explainer) state(k *masterKey, kv keyVersion) {
	switch state := k.versionState(kv); {
	case x.s.keys.checkKey(k) != nil:
		first := !x.Broken
		x.broken("state", "reseal key disable "+k.name, "recorded as %s, but the record of %q was altered by other means", state, k.name)
		x.movable = first
	case state == Enabled:
		x.ok("state", "%s", state)
	case state == Destroyed:
		x.broken("state", x.discard(), "%s", state)
	case state == PendingDeletion:
		x.broken("state", enableRemedy(k, state), "%s, from %s on", state, fromMillis(k.deletionAt).Format(time.RFC3339))
	default:
		x.broken("state", enableRemedy(k, state), "%s", state)
	}
}

// value opens the master key version's wrap and then the value, from the file.
func (x *explainer) value(d dataKey, k *masterKey, kv keyVersion) error {
	o := &opener{v: &verifier{s: x.s, ctx: x.ctx}, q: x.q, unwrapped: map[int64]*source{}}
	defer o.close()
	err := o.open(x.sec, &d, k, kv)
	src := o.unwrapped[kv.row]
	if err != nil {
		if err := x.misplaced(d); err != nil {
			return err
		}
	}
	if src.err != nil {
		why, err := damageOf(src.err)
		if err == nil {
			x.broken("root", x.lost(kv), "%s", why)
			err = errBroken
		}
		return err
	}
	x.ok("root", "unwraps the master key version")
	if err != nil {
		why, err := damageOf(err)
		if err == nil {
			x.broken("value", x.discard(), "%s", why)
		}
		return err
	}
	x.ok("value", "opens")
	return nil
}

// misplaced breaks the chain at a data key that another master key version wraps
// than its row names: set-key puts that right.
func (x *explainer) misplaced(d dataKey) error {
	src, err := view{s: x.s, ctx: x.ctx, q: x.q, remember: true}.misplaced(d)
	if err != nil || src == nil {
		return err
	}
	x.EffectiveKey, x.EffectiveKeyVersion, x.KeyState = src.key.name, src.version.number, src.key.versionState(src.version)
	x.broken("data key", "reseal set-key "+x.Secret+" "+x.ConfiguredKey, "%s", src.misplacedDetail())
	return errBroken
}

// lost is the remedy for a master key version that does not unwrap: with it
// every version under it is lost, unless there is a backup.
func (x *explainer) lost(kv keyVersion) string {
	if r := restoreRemedy(x.ctx, x.q, ""); kv.destroyedAt == 0 && strings.HasPrefix(r, "reseal migrate restore") {
		return r
	}
	return x.discard()
}

// rescue is the command that moves the secret away from a master key whose
// record was altered: to the default key if that is another one and usable,
// else to any that is, else to a new one.
func (x *explainer) rescue() (string, error) {
	st, err := loadState(x.ctx, x.q)
	if err != nil {
		return "", err
	}
	keys, err := loadAllKeys(x.ctx, x.q)
	if err != nil {
		return "", err
	}
	var to string
	names := map[string]bool{}
	for _, k := range keys {
		names[k.name] = true
		usable := k.name != x.EffectiveKey && k.state == Enabled && x.s.keys.checkKey(k) == nil
		if usable && (to == "" || st.isDefault(k)) {
			to = k.name
		}
	}
	if to != "" {
		return "reseal set-key " + x.Secret + " " + to, nil
	}
	for n := 1; ; n++ {
		if to = fmt.Sprintf("rescue-%d", n); !names[to] {
			return "reseal key create " + to + " && reseal set-key " + x.Secret + " " + to, nil
		}
	}
}

// restoreRemedy is the command that goes back to the newest known backup, or
// without one the command that tells what happened to the secret.
func restoreRemedy(ctx context.Context, q querier, secret string) string {
	var path string
	err := q.QueryRowContext(ctx, `
		SELECT path
		FROM reseal_backups
		ORDER BY created_at DESC, id DESC
		LIMIT 1`).Scan(&path)
	switch {
	case err == nil:
		return "reseal migrate restore " + shellQuote(path)
	case errors.Is(err, sql.ErrNoRows) && secret != "":
		return "reseal audit list --secret " + secret
	}
	return "reseal audit verify"
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string {
	if s != "" && plainName(strings.ReplaceAll(s, "/", "")) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
