package faultvfs

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// The shapes of the functions that are passed on.
type (
	openFunc   = func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	removeFunc = func(*libc.TLS, uintptr, uintptr, int32) int32
	accessFunc = func(*libc.TLS, uintptr, uintptr, int32, uintptr) int32
	plainFunc  = func(*libc.TLS, uintptr) int32
	dataFunc   = func(*libc.TLS, uintptr, uintptr, int32, int64) int32
	sizeFunc   = func(*libc.TLS, uintptr, int64) int32
	flagFunc   = func(*libc.TLS, uintptr, int32) int32
	outFunc    = func(*libc.TLS, uintptr, uintptr) int32
	fcntlFunc  = func(*libc.TLS, uintptr, int32, uintptr) int32
	mapFunc    = func(*libc.TLS, uintptr, int32, int32, int32, uintptr) int32
	lockFunc   = func(*libc.TLS, uintptr, int32, int32, int32) int32
	voidFunc   = func(*libc.TLS, uintptr)
)

func newMethods(tls *libc.TLS) uintptr {
	p := allocate[sqlite3.Tsqlite3_io_methods](tls)
	*at[sqlite3.Tsqlite3_io_methods](p) = sqlite3.Tsqlite3_io_methods{
		FiVersion:               2, // with shared memory, without memory mapping
		FxClose:                 pointer(closeFile),
		FxRead:                  pointer(read),
		FxWrite:                 pointer(write),
		FxTruncate:              pointer(truncate),
		FxSync:                  pointer(syncFile),
		FxFileSize:              pointer(size),
		FxLock:                  pointer(lock),
		FxUnlock:                pointer(unlock),
		FxCheckReservedLock:     pointer(checkReservedLock),
		FxFileControl:           pointer(fileControl),
		FxSectorSize:            pointer(sectorSize),
		FxDeviceCharacteristics: pointer(characteristics),
		FxShmMap:                pointer(shmMap),
		FxShmLock:               pointer(shmLock),
		FxShmBarrier:            pointer(shmBarrier),
		FxShmUnmap:              pointer(shmUnmap),
	}
	return p
}

func open(tls *libc.TLS, _, name, f uintptr, flags int32, out uintptr) int32 {
	h := at[file](f)
	h.methods = 0
	path := ""
	if name != 0 {
		path = libc.GoString(name)
	}
	if v := decide(Open); v.fails {
		return v.code
	}
	isNew := recording() && isMissing(path)
	at[sqlite3.Tsqlite3_file](realFile(f)).FpMethods = 0
	rc := function[openFunc](at[sqlite3.Tsqlite3_vfs](real).FxOpen)(tls, real, name, realFile(f), flags, out)
	if at[sqlite3.Tsqlite3_file](realFile(f)).FpMethods == 0 {
		return rc
	}
	h.methods = methods
	h.id = opened(path, flags, isNew)
	return rc
}

func remove(tls *libc.TLS, _, name uintptr, syncDir int32) int32 {
	if v := decide(Delete); v.fails {
		return v.code
	}
	rc := function[removeFunc](at[sqlite3.Tsqlite3_vfs](real).FxDelete)(tls, real, name, syncDir)
	if rc == sqlite3.SQLITE_OK {
		removed(libc.GoString(name), syncDir != 0)
	}
	return rc
}

func access(tls *libc.TLS, _, name uintptr, flags int32, out uintptr) int32 {
	if v := decide(Access); v.fails {
		return v.code
	}
	return function[accessFunc](at[sqlite3.Tsqlite3_vfs](real).FxAccess)(tls, real, name, flags, out)
}

func closeFile(tls *libc.TLS, f uintptr) int32 {
	rc := function[plainFunc](realMethods(f).FxClose)(tls, realFile(f))
	closed(at[file](f).id)
	return rc
}

func read(tls *libc.TLS, f, buf uintptr, n int32, offset int64) int32 {
	if v := decide(Read); v.fails {
		clear(bytesAt(buf, int(n)))
		return v.code
	}
	return function[dataFunc](realMethods(f).FxRead)(tls, realFile(f), buf, n, offset)
}

func write(tls *libc.TLS, f, buf uintptr, n int32, offset int64) int32 {
	v := decide(Write)
	if v.fails {
		n = int32(v.part * float64(n))
	}
	rc := int32(sqlite3.SQLITE_OK)
	if n > 0 {
		rc = function[dataFunc](realMethods(f).FxWrite)(tls, realFile(f), buf, n, offset)
	}
	if rc == sqlite3.SQLITE_OK && n > 0 {
		written(at[file](f).id, offset, bytesAt(buf, int(n)))
	}
	if v.fails {
		return v.code
	}
	return rc
}

func truncate(tls *libc.TLS, f uintptr, n int64) int32 {
	if v := decide(Truncate); v.fails {
		return v.code
	}
	rc := function[sizeFunc](realMethods(f).FxTruncate)(tls, realFile(f), n)
	if rc == sqlite3.SQLITE_OK {
		truncated(at[file](f).id, n)
	}
	return rc
}

// syncFile does not make the disk write: the power does not fail in this
// process, and its recorder knows what would be durable.
func syncFile(_ *libc.TLS, f uintptr, _ int32) int32 {
	if v := decide(Sync); v.fails {
		return v.code
	}
	synced(at[file](f).id)
	return sqlite3.SQLITE_OK
}

func size(tls *libc.TLS, f, out uintptr) int32 {
	if v := decide(Size); v.fails {
		return v.code
	}
	return function[outFunc](realMethods(f).FxFileSize)(tls, realFile(f), out)
}

func lock(tls *libc.TLS, f uintptr, level int32) int32 {
	if v := decide(Lock); v.fails {
		return v.code
	}
	return function[flagFunc](realMethods(f).FxLock)(tls, realFile(f), level)
}

func unlock(tls *libc.TLS, f uintptr, level int32) int32 {
	return function[flagFunc](realMethods(f).FxUnlock)(tls, realFile(f), level)
}

func checkReservedLock(tls *libc.TLS, f, out uintptr) int32 {
	return function[outFunc](realMethods(f).FxCheckReservedLock)(tls, realFile(f), out)
}

func fileControl(tls *libc.TLS, f uintptr, op int32, arg uintptr) int32 {
	return function[fcntlFunc](realMethods(f).FxFileControl)(tls, realFile(f), op, arg)
}

func sectorSize(tls *libc.TLS, f uintptr) int32 {
	return function[plainFunc](realMethods(f).FxSectorSize)(tls, realFile(f))
}

func characteristics(tls *libc.TLS, f uintptr) int32 {
	return function[plainFunc](realMethods(f).FxDeviceCharacteristics)(tls, realFile(f))
}

func shmMap(tls *libc.TLS, f uintptr, region, n, extend int32, out uintptr) int32 {
	if v := decide(ShmMap); v.fails {
		*at[uintptr](out) = 0
		return v.code
	}
	return function[mapFunc](realMethods(f).FxShmMap)(tls, realFile(f), region, n, extend, out)
}

func shmLock(tls *libc.TLS, f uintptr, offset, n, flags int32) int32 {
	if flags&sqlite3.SQLITE_SHM_LOCK != 0 {
		if v := decide(ShmLock); v.fails {
			return v.code
		}
	}
	return function[lockFunc](realMethods(f).FxShmLock)(tls, realFile(f), offset, n, flags)
}

func shmBarrier(tls *libc.TLS, f uintptr) {
	function[voidFunc](realMethods(f).FxShmBarrier)(tls, realFile(f))
}

func shmUnmap(tls *libc.TLS, f uintptr, deleteFlag int32) int32 {
	return function[flagFunc](realMethods(f).FxShmUnmap)(tls, realFile(f), deleteFlag)
}
