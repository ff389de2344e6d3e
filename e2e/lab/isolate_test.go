package lab

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if code, again := Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// TestAddressesTakenAtOnceAllStay: labs that start together do not take away each other's
// address.
func TestAddressesTakenAtOnceAllStay(t *testing.T) {
	const labs = 40
	addresses, errs := make([]string, labs), make([]error, labs)
	var group sync.WaitGroup
	for i := range labs {
		group.Go(func() { addresses[i], errs[i] = newAddress() })
	}
	group.Wait()
	for i, address := range addresses {
		if errs[i] != nil {
			t.Errorf("address %d: %v", i, errs[i])
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address, "443"))
		if err != nil {
			t.Error(fmt.Errorf("address %d: %w", i, err))
			continue
		}
		listener.Close()
	}
}
