package doctor

import (
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// State of a check.
type State string

// The states. Skipped: it could not be looked at, for want of a right, a flag, or
// because something before it failed.
const (
	OK      State = "OK"
	Warn    State = "Warn"
	Fail    State = "Fail"
	Skipped State = "Skipped"
)

// Check is one link of the chain.
type Check struct {
	// ID is the check's short name, the same every time.
	ID    string `json:"id"`
	Title string `json:"title"`
	State State  `json:"state"`
	// Why is what was found.
	Why string `json:"why"`
	// Fix says what to do; Command, where there is one, does it, and takes away nothing that
	// others need. Look is a command that mends nothing, and shows more.
	Fix     string `json:"fix,omitempty"`
	Command string `json:"command,omitempty"`
	Look    string `json:"look,omitempty"`
}

// notLooked begins what is said of a check after one that failed.
const notLooked = "not looked at, because "

// NotLooked says that the check was not made because of one before it.
func (c *Check) NotLooked() bool { return c.State == Skipped && strings.HasPrefix(c.Why, notLooked) }

// Report is the outcome of one walk. It holds no token, no key and no value of a Secret.
type Report struct {
	Target  string  `json:"target"`
	Healthy bool    `json:"healthy"` // it could look, and nothing failed
	Looked  bool    `json:"looked"`  // at more than whether the API server answers
	Checks  []Check `json:"checks"`
}

// result is what a check finds out.
type result = Check

func fine(format string, args ...any) result {
	return result{State: OK, Why: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) result {
	return result{State: Skipped, Why: fmt.Sprintf(format, args...)}
}

func failed(why, fix, command string) result {
	return result{State: Fail, Why: why, Fix: fix, Command: command}
}

func warned(why, fix, command string) result {
	return result{State: Warn, Why: why, Fix: fix, Command: command}
}

// looking adds the command that shows more.
func (c Check) looking(command string) result {
	c.Look = command
	return c
}

// unread says why something could not be read: a missing right is nobody's fault.
func unread(err error, right string) result {
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		return result{State: Skipped, Why: "no right to " + right, Fix: "the ClusterRole and the Role bucket-access-viewer have the rights that doctor uses"}
	case apierrors.IsNotFound(err):
		return failed(right+": it does not exist", "see that the name and the namespace are right", "")
	}
	return failed(right+": "+err.Error(), "see that the API server answers, and try again", "")
}

// list joins some texts, and says how many more there are.
func list(texts []string) string {
	const shown = 5
	if len(texts) > shown {
		return strings.Join(texts[:shown], ", ") + fmt.Sprintf(" and %d more", len(texts)-shown)
	}
	return strings.Join(texts, ", ")
}
