package faultvfs

import (
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

const vfsName = "reseal-fault"

var (
	install sync.Once
	real    uintptr // the sqlite3_vfs that calls are passed on to
	methods uintptr // the sqlite3_io_methods of every open file
)

// Install makes this file system the default one. It is for a process that has
// not opened a database yet, and may be called again.
func Install() {
	install.Do(func() {
		tls := libc.NewTLS() // kept: it allocated what is registered
		if rc := sqlite3.Xsqlite3_initialize(tls); rc != sqlite3.SQLITE_OK {
			panic(fmt.Sprintf("sqlite3_initialize: %d", rc))
		}
		real = sqlite3.Xsqlite3_vfs_find(tls, 0)
		methods = newMethods(tls)
		own := allocate[sqlite3.Tsqlite3_vfs](tls)
		v := at[sqlite3.Tsqlite3_vfs](own)
		*v = *at[sqlite3.Tsqlite3_vfs](real)
		v.FpNext, v.FszOsFile = 0, v.FszOsFile+int32(unsafe.Sizeof(file{}))
		name, err := libc.CString(vfsName)
		if err != nil {
			panic(err)
		}
		v.FzName = name
		v.FxOpen = pointer(open)
		v.FxDelete = pointer(remove)
		v.FxAccess = pointer(access)
		if rc := sqlite3.Xsqlite3_vfs_register(tls, own, 1); rc != sqlite3.SQLITE_OK {
			panic(fmt.Sprintf("sqlite3_vfs_register: %d", rc))
		}
	})
}

// file is what SQLite keeps of an open file: this header, and behind it the
// real file system's own.
type file struct {
	methods uintptr
	id      uintptr // in files
	_       uintptr // the real file begins at a multiple of 8 on every platform
	_       uintptr
}

// realFile returns the real file system's part of an open file.
func realFile(f uintptr) uintptr { return f + unsafe.Sizeof(file{}) }

// realMethods returns the real file system's methods of an open file.
func realMethods(f uintptr) *sqlite3.Tsqlite3_io_methods {
	return at[sqlite3.Tsqlite3_io_methods](at[sqlite3.Tsqlite3_file](realFile(f)).FpMethods)
}

// at reads a C address as what lies there. The memory is not Go's.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

func bytesAt(address uintptr, n int) []byte { return unsafe.Slice(at[byte](address), n) }

// pointer makes a C function pointer of a function that is never freed, and
// function the other way round, as the translated SQLite does.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

func allocate[T any](tls *libc.TLS) uintptr {
	var t T
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(t)))
	if p == 0 {
		panic("out of memory")
	}
	return p
}
