package faultvfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	sqlite3 "modernc.org/sqlite/lib"
)

// event is one thing that happened to the files.
type event struct {
	what   what
	path   string
	inode  int // the file that path named then
	offset int64
	data   []byte
	dir    bool // the folder became durable too
}

type what int

const (
	acked what = iota
	createdFile
	foundFile // made without SQLite, and taken to be durable as it was found
	wroteFile
	truncatedFile
	syncedFile
	removedFile
)

// Log is what happened to the files of one folder while it was recorded.
type Log struct {
	folder string
	start  map[string][]byte // by name
	events []event
	acks   int
}

// recorder is what is being recorded, if anything, and which files are open.
var recorder struct {
	sync.Mutex
	log    *Log
	inodes map[string]int // by path
	next   int
	files  map[uintptr]*openFile
	lastID uintptr
}

type openFile struct {
	path     string
	inode    int
	dirSync  bool // its first sync makes the folder durable: SQLite does so for new journals and logs
	temporal bool // never found after a crash
}

// Record runs fn and records what it does through SQLite to the files of a
// folder, in which no database is open. Files of other folders and what fn does
// to files without SQLite are not in it.
func Record(folder string, fn func(*Log)) (*Log, error) {
	log := &Log{folder: folder, start: map[string][]byte{}}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	recorder.Lock()
	recorder.inodes, recorder.next = map[string]int{}, 0
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		data, rerr := os.ReadFile(path)
		err = errors.Join(err, rerr)
		recorder.next++
		recorder.inodes[path], log.start[path] = recorder.next, data
	}
	recorder.log = log
	recorder.Unlock()
	defer func() {
		recorder.Lock()
		recorder.log = nil
		recorder.Unlock()
	}()
	if err == nil {
		fn(log)
	}
	return log, err
}

// Ack says that something was acknowledged now: every crash from here on has to
// have it.
func (l *Log) Ack() {
	recorder.Lock()
	defer recorder.Unlock()
	l.acks++
	l.events = append(l.events, event{what: acked})
}

func recording() bool {
	recorder.Lock()
	defer recorder.Unlock()
	return recorder.log != nil
}

func isMissing(path string) bool {
	_, err := os.Lstat(path)
	return path != "" && errors.Is(err, fs.ErrNotExist)
}

// record adds an event. The recorder is locked.
func record(e event) {
	if recorder.log != nil && filepath.Dir(e.path) == recorder.log.folder {
		recorder.log.events = append(recorder.log.events, e)
	}
}

func opened(path string, flags int32, isNew bool) (id uintptr) {
	recorder.Lock()
	defer recorder.Unlock()
	f := &openFile{path: path, temporal: path == "" || flags&sqlite3.SQLITE_OPEN_DELETEONCLOSE != 0}
	if isNew && recorder.log != nil && !f.temporal {
		recorder.next++
		recorder.inodes[path] = recorder.next
		record(event{what: createdFile, path: path, inode: recorder.next})
		f.dirSync = flags&(sqlite3.SQLITE_OPEN_WAL|sqlite3.SQLITE_OPEN_MAIN_JOURNAL|sqlite3.SQLITE_OPEN_SUPER_JOURNAL) != 0
	}
	if recorder.log != nil && !f.temporal && recorder.inodes[path] == 0 {
		recorder.next++
		recorder.inodes[path] = recorder.next
		data, _ := os.ReadFile(path) // what cannot be read has nothing to lose
		record(event{what: foundFile, path: path, inode: recorder.next, data: data})
	}
	f.inode = recorder.inodes[path]
	if recorder.files == nil {
		recorder.files = map[uintptr]*openFile{}
	}
	recorder.lastID++
	recorder.files[recorder.lastID] = f
	return recorder.lastID
}

func closed(id uintptr) {
	recorder.Lock()
	defer recorder.Unlock()
	delete(recorder.files, id)
}

// happened records an event of an open file.
func happened(id uintptr, e event) {
	recorder.Lock()
	defer recorder.Unlock()
	f := recorder.files[id]
	if recorder.log == nil || f.temporal {
		return
	}
	e.path, e.inode = f.path, f.inode
	if e.what == syncedFile {
		e.dir, f.dirSync = f.dirSync, false
	}
	record(e)
}

func written(id uintptr, offset int64, data []byte) {
	if recording() {
		happened(id, event{what: wroteFile, offset: offset, data: bytes.Clone(data)})
	}
}

func truncated(id uintptr, size int64) {
	happened(id, event{what: truncatedFile, offset: size})
}

func synced(id uintptr) { happened(id, event{what: syncedFile}) }

func removed(path string, dir bool) {
	recorder.Lock()
	defer recorder.Unlock()
	record(event{what: removedFile, path: path, dir: dir})
	if recorder.log != nil {
		delete(recorder.inodes, path)
	}
}
