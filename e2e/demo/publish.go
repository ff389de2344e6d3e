package main

import (
	"io"
	"net"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// publish passes connections from a listener on the machine's own loopback on into the
// lab's network.
func publish(n int, address string) (string, error) {
	listener, outside, err := lab.Outside(n)
	if err != nil {
		return "", err
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address)
			if err != nil {
				_ = from.Close()
				continue
			}
			pass := func(a, b net.Conn) { defer a.Close(); _, _ = io.Copy(a, b) }
			go pass(from, to)
			go pass(to, from)
		}
	}()
	return outside, nil
}
