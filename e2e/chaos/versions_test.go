package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// policyName is of the policy that changes all the time.
const policyName = "chaos"

// injectionOf is what a version of the policy gives: each value tells the version, so a
// Pod that was made from two of them shows it.
func injectionOf(version int) lab.Injection {
	return lab.Injection{
		Policy: policyName, Bucket: fmt.Sprintf("orders-v%d", version), Region: []string{"eu-west-1", "eu-central-1"}[version%2],
		TokenExpiration: int64(3600 + version%1000),
	}
}

func document(version int) string {
	injection := injectionOf(version)
	return fmt.Sprintf("apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: %s\nregion: %s\ntokenExpirationSeconds: %d\n"+
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: '*', serviceAccount: '*'}]\n",
		injection.Bucket, injection.Region, injection.TokenExpiration)
}

// versionOf reads the version out of a bucket's name.
func versionOf(bucket string) (int, bool) {
	text, ours := strings.CutPrefix(bucket, "orders-v")
	version, err := strconv.Atoi(text)
	return version, ours && err == nil
}

// mark is a version and when it was first there.
type mark struct {
	at      time.Time
	version int
}

// ledger knows which versions of the policy were written, acknowledged, and seen in force
// in each replica.
type ledger struct {
	mutex     sync.Mutex
	attempted int
	acked     []mark
	seen      map[string][]mark // by replica
	ended     map[string]time.Time
}

func newLedger() *ledger { return &ledger{seen: map[string][]mark{}, ended: map[string]time.Time{}} }

// next is the version that is about to be written.
func (l *ledger) next() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.attempted++
	return l.attempted
}

func (l *ledger) acknowledge(version int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.acked = append(l.acked, mark{time.Now(), version})
}

func (l *ledger) newest() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.attempted
}

// joins and leaves are of replicas.
func (l *ledger) joins(replica string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.seen[replica] = []mark{{time.Now(), 0}}
}

func (l *ledger) leaves(replica string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.ended[replica] = time.Now()
}

// see notes what a replica answers with, and says whether it went back to an older one.
func (l *ledger) see(replica string, version int) (back bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	marks := l.seen[replica]
	last := marks[len(marks)-1].version
	if version > last {
		l.seen[replica] = append(marks, mark{time.Now(), version})
	}
	return version < last
}

// everywhere says whether all replicas that run have a version in force.
func (l *ledger) everywhere(version int) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for replica, marks := range l.seen {
		if l.ended[replica].IsZero() && marks[len(marks)-1].version < version {
			return false
		}
	}
	return true
}

// seenEverywhere is the version that every replica which runs at a time had in force
// before another time.
func (l *ledger) seenEverywhere(at, before time.Time) int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	least := l.attempted
	for replica, marks := range l.seen {
		if ended := l.ended[replica]; marks[0].at.After(at) || !ended.IsZero() && ended.Before(at) {
			continue
		}
		least = min(least, newestBefore(marks, before).version)
	}
	return least
}

// acknowledged is the newest version that was acknowledged before a time.
func (l *ledger) acknowledged(before time.Time) mark {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return newestBefore(l.acked, before)
}

func newestBefore(marks []mark, before time.Time) (newest mark) {
	for i := len(marks) - 1; i >= 0; i-- {
		if marks[i].at.Before(before) {
			return marks[i]
		}
	}
	return newest
}
