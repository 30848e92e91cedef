//go:build linux || darwin

package store

import "syscall"

// diskFree returns how many bytes this user can still write in a folder.
func diskFree(folder string) (bytes int64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
