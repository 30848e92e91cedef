package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reseal/reseal/store"
)

// exampleFolder is a folder for an example's files, and what removes it.
func exampleFolder() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "reseal")
	check(err)
	return dir, func() { check(os.RemoveAll(dir)) }
}

// A store in a file of its own: made once, opened from then on. The key file is
// the only thing that opens it, and belongs elsewhere than the store.
func Example_ownFile() {
	ctx := context.Background()
	dir, remove := exampleFolder()
	defer remove()
	path, keyFile := filepath.Join(dir, "secrets.db"), filepath.Join(dir, "reseal.key")

	cred, err := store.NewKeyFile(keyFile)
	check(err)
	s, err := store.Create(ctx, path, cred, nil)
	check(err)
	_, err = s.Put(ctx, "app/db/password", []byte("hunter2"), nil)
	check(err)
	check(s.Close())

	// At every start from then on.
	s, err = store.Open(ctx, path, store.KeyFile(keyFile), nil)
	check(err)
	defer s.Close()
	v, err := s.Get(ctx, "app/db/password")
	check(err)
	defer v.Clear()
	fmt.Printf("version %d: %s\n", v.Version, v.Bytes())

	// Output:
	// version 1: hunter2
}

// A store in the host's own database: a row of the host's and its secret are
// written in one transaction, and commit or roll back together.
func Example_hostTransaction() {
	ctx := context.Background()
	dir, remove := exampleFolder()
	defer remove()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.db")+
		"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)")
	check(err)
	defer db.Close()
	_, err = db.ExecContext(ctx, `CREATE TABLE accounts (name TEXT PRIMARY KEY, host TEXT NOT NULL) STRICT`)
	check(err)

	// Init makes the store beside the host's tables, once; store.New opens it
	// from then on.
	cred, err := store.NewKeyFile(filepath.Join(dir, "reseal.key"))
	check(err)
	s, err := store.Init(ctx, db, cred, nil)
	check(err)
	defer s.Close()

	addAccount := func(name, host string, password []byte) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := s.PutTx(ctx, tx, "account/"+name, password, nil); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO accounts (name, host) VALUES (?, ?)`, name, host); err != nil {
			return err
		}
		return tx.Commit()
	}
	check(addAccount("mail", "mail.example.org", []byte("first")))
	err = addAccount("mail", "other.example.org", []byte("second")) // the row is there already
	fmt.Println("the second account was refused:", err != nil)
	v, err := s.Get(ctx, "account/mail")
	check(err)
	defer v.Clear()
	fmt.Printf("version %d: %s\n", v.Version, v.Bytes())

	// Output:
	// the second account was refused: true
	// version 1: first
}

// A service that uses a token which changes while it runs. The handle always has
// the newest one.
func Example_httpService() {
	ctx := context.Background()
	dir, remove := exampleFolder()
	defer remove()
	cred, err := store.NewKeyFile(filepath.Join(dir, "reseal.key"))
	check(err)
	s, err := store.Create(ctx, filepath.Join(dir, "secrets.db"), cred, nil)
	check(err)
	defer s.Close()
	_, err = s.Put(ctx, "api/token", []byte("token-1"), nil)
	check(err)

	token, err := s.Watch(ctx, "api/token", nil)
	check(err)
	defer token.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := token.Value(r.Context())
		if errors.Is(err, store.ErrKeyUnavailable) || errors.Is(err, store.ErrDeleted) {
			http.Error(w, "no token: an operator has to look", http.StatusServiceUnavailable)
			return
		}
		if err != nil {
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
		defer v.Clear()
		fmt.Fprintf(w, "called upstream with version %d of the token", v.Version)
	}))
	defer service.Close()

	fmt.Println(ask(service.URL))
	_, err = s.Put(ctx, "api/token", []byte("token-2"), nil)
	check(err)
	fmt.Println(ask(service.URL))
	_, err = s.Delete(ctx, "api/token", 0)
	check(err)
	fmt.Println(ask(service.URL))

	// Output:
	// 200 called upstream with version 1 of the token
	// 200 called upstream with version 2 of the token
	// 503 no token: an operator has to look
}

func ask(url string) string {
	resp, err := http.Get(url)
	check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(err)
	return fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(body)))
}

// A program that connects anew whenever its password changes, whoever changed
// it: this process, another, or an operator with the reseal command.
func ExampleStore_Watch() {
	ctx := context.Background()
	dir, remove := exampleFolder()
	defer remove()
	cred, err := store.NewKeyFile(filepath.Join(dir, "reseal.key"))
	check(err)
	path := filepath.Join(dir, "secrets.db")
	s, err := store.Create(ctx, path, cred, nil)
	check(err)
	defer s.Close()
	_, err = s.Put(ctx, "db/password", []byte("first"), nil)
	check(err)

	password, err := s.Watch(ctx, "db/password", &store.WatchOptions{Interval: 10 * time.Millisecond})
	check(err)
	connect := func() {
		v, err := password.Value(ctx)
		if err != nil {
			log.Print(err) // the next change may mend it
			return
		}
		defer v.Clear()
		fmt.Printf("connected with %q\n", v.Bytes())
	}
	connect()

	operator, err := store.Open(ctx, path, cred, nil)
	check(err)
	_, err = operator.Put(ctx, "db/password", []byte("second"), nil)
	check(err)
	check(operator.Close())

	<-password.Changed() // a program does this in a loop, until the channel is closed
	connect()
	check(password.Close())

	// Output:
	// connected with "first"
	// connected with "second"
}
