package faultvfs

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Events is how many moments there are at which the power can fail, less one:
// after each event, and before the first.
func (l *Log) Events() int { return len(l.events) }

// sector is what a disk writes whole.
const sector = 512

// disk is the files as they are, and as they are sure to be.
type disk struct {
	names   map[string]int // durable: which inode a path names
	pending []event        // creations and removals that are not
	inodes  map[int]*inode
}

type inode struct {
	durable []byte
	pending []event // writes and truncations that are not durable
}

// Crash writes to a folder what may be found of the files when the power failed
// after so many events, and returns how many things were acknowledged until
// then. What was not synced is there in whole, not at all, up to some write, or
// in parts, in any order, each write torn between sectors: r chooses.
func (l *Log) Crash(after int, folder string, r *rand.Rand) (acks int, err error) {
	d := &disk{names: map[string]int{}, inodes: map[int]*inode{}}
	for i, path := range sortedKeys(l.start) { // in the order in which they got their numbers
		d.names[path], d.inodes[i+1] = i+1, &inode{durable: slices.Clone(l.start[path])}
	}
	for _, e := range l.events[:after] {
		if e.what == acked {
			acks++
			continue
		}
		d.apply(e)
	}
	d.loseFolder(r)
	for _, path := range sortedKeys(d.names) {
		n := d.inodes[d.names[path]]
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(path)), n.lose(r), 0o600); err != nil {
			return acks, err
		}
	}
	return acks, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (d *disk) inode(id int) *inode {
	if d.inodes[id] == nil {
		d.inodes[id] = &inode{}
	}
	return d.inodes[id]
}

func (d *disk) apply(e event) {
	switch e.what {
	case createdFile, removedFile:
		d.pending = append(d.pending, e)
	case foundFile:
		d.names[e.path], d.inodes[e.inode] = e.inode, &inode{durable: slices.Clone(e.data)}
	case wroteFile, truncatedFile:
		n := d.inode(e.inode)
		n.pending = append(n.pending, e)
	case syncedFile:
		n := d.inode(e.inode)
		for _, p := range n.pending {
			n.durable = p.onto(n.durable)
		}
		n.pending = nil
	}
	if e.dir {
		for _, p := range d.pending {
			d.rename(p)
		}
		d.pending = nil
	}
}

// rename makes a creation or removal durable.
func (d *disk) rename(e event) {
	if e.what == removedFile {
		delete(d.names, e.path)
		return
	}
	d.names[e.path] = e.inode
	d.inode(e.inode)
}

// loseFolder makes durable as many of the changes of the folder as r says, those
// of one path in their order.
func (d *disk) loseFolder(r *rand.Rand) {
	stopped := map[string]bool{}
	for _, e := range d.pending {
		stopped[e.path] = stopped[e.path] || r.IntN(2) == 0
		if !stopped[e.path] {
			d.rename(e)
		}
	}
}

// lose returns what is found of the file.
func (n *inode) lose(r *rand.Rand) []byte {
	content := slices.Clone(n.durable)
	how := r.IntN(4)
	upTo := r.IntN(len(n.pending) + 1)
	for i, e := range n.pending {
		switch {
		case how == 0 || how == 1 && i >= upTo:
			return content
		case how == 2 && i != upTo && r.IntN(2) == 0:
			continue
		case how == 2 && e.what == wroteFile && r.IntN(2) == 0:
			content = e.torn(content, r)
		case how == 1 && i == upTo-1 && e.what == wroteFile:
			content = e.torn(content, r)
		default:
			content = e.onto(content)
		}
	}
	return content
}

// onto returns the content after a write or truncation.
func (e *event) onto(content []byte) []byte {
	size := int(e.offset)
	if e.what == wroteFile {
		size = max(len(content), size+len(e.data))
	}
	if size <= cap(content) {
		was := len(content)
		content = content[:size]
		if size > was {
			clear(content[was:])
		}
	} else {
		content = append(content, make([]byte, size-len(content))...)
	}
	copy(content[min(int(e.offset), len(content)):], e.data)
	return content
}

// torn writes only some of the sectors.
func (e *event) torn(content []byte, r *rand.Rand) []byte {
	for from := 0; from < len(e.data); {
		to := min(len(e.data), (from+int(e.offset))/sector*sector+sector-int(e.offset))
		if r.IntN(2) == 0 {
			part := event{what: wroteFile, offset: e.offset + int64(from), data: e.data[from:to]}
			content = part.onto(content)
		}
		from = to
	}
	return content
}
