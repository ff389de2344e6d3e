package main

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOnATerminal: symbols, colours and lines of 80 columns, as the golden file of pkg/cli
// has them.
func TestOnATerminal(t *testing.T) {
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	defer main.Close()
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	number, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(main.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	command := program(t, "validate", "-f", "testdata/policies-wrong.yaml")
	command.Dir, command.Stdout, command.Stderr = "../../pkg/cli", terminal, terminal
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = terminal.Close()
	got, err := io.ReadAll(main)
	if err != nil && !errors.Is(err, syscall.EIO) { // how Linux says that nobody writes any more
		t.Fatal(err)
	}
	_ = command.Wait()
	want, err := os.ReadFile("../../pkg/cli/testdata/validate.terminal.txt")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(string(got), "\r\n", "\n"); text != string(want) {
		t.Errorf("want %s\ngot %s", want, text)
	}
}
