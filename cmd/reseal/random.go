package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/spf13/cobra"
)

// alphabet is what passwords are made of: no quote, backslash, dollar or white
// space, which shells and configuration files give a meaning.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+=@%:,/"

func (a *app) randomCommand() *cobra.Command {
	var length int
	var exclude string
	c := &cobra.Command{
		Use:   "random",
		Short: "Print a random password",
		Long: fmt.Sprintf(`Print a password of random characters, each chosen with equal chance from

  %s

A newline is added on a terminal only, so that it pipes into reseal put.`, alphabet),
		Example: `  reseal random --length 40 | reseal put app/db/password`,
		Args:    takes(),
	}
	c.Flags().IntVar(&length, "length", 32, "how many `characters`, 8 to 4096")
	c.Flags().StringVar(&exclude, "exclude", "", "leave these `characters` out")
	c.RunE = a.runs(func(context.Context, []string) error { return a.random(length, exclude) })
	return c
}

func (a *app) random(length int, exclude string) error {
	if length < 8 || length > 4096 {
		return usagef("", "--length is %d: between 8 and 4096", length)
	}
	chars := strings.Map(func(r rune) rune {
		if strings.ContainsRune(exclude, r) {
			return -1
		}
		return r
	}, alphabet)
	if len(chars) < 10 {
		return usagef("", "--exclude leaves %d characters: at least 10 are needed", len(chars))
	}
	password := make([]byte, length)
	defer clear(password)
	for i := range password {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(chars))))
		if err != nil {
			return err
		}
		password[i] = chars[n.Int64()]
	}
	res := struct {
		Value  string `json:"value"`
		Length int    `json:"length"`
	}{string(password), length}
	return a.emit(res, func(w io.Writer) {
		w.Write(password)
		if isTerminal(w) {
			fmt.Fprintln(w)
		}
	})
}
