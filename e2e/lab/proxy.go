package lab

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// Proxy passes TCP connections on to the API server, and breaks them when it is told to.
type Proxy struct {
	listener net.Listener
	target   string
	flow     sync.RWMutex // held while nothing may pass

	mutex       sync.Mutex
	connections map[net.Conn]bool
	refuse      bool
}

// StartProxy starts a proxy to the API server. It ends with the lab.
func (l *Lab) StartProxy(ctx context.Context) (*Proxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(l.host, "0"))
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: strings.Trim(strings.TrimPrefix(l.Config.Host, "https://"), "/"), connections: map[net.Conn]bool{}}
	go func() {
		for {
			connection, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go p.pass(context.WithoutCancel(ctx), connection)
			}
		}
	}()
	l.stops = append(l.stops, func() { _ = listener.Close(); p.Cut(0) })
	return p, nil
}

// URL is the API server's, by way of the proxy.
func (p *Proxy) URL() string { return "https://" + p.listener.Addr().String() }

// Cut breaks all connections, and takes no new ones for a while.
func (p *Proxy) Cut(last time.Duration) {
	p.mutex.Lock()
	p.refuse = last > 0
	for connection := range p.connections {
		_ = connection.Close()
	}
	p.mutex.Unlock()
	time.Sleep(last)
	p.mutex.Lock()
	p.refuse = false
	p.mutex.Unlock()
}

// Stall lets nothing pass for a while; connections stay.
func (p *Proxy) Stall(last time.Duration) {
	p.flow.Lock()
	defer p.flow.Unlock()
	time.Sleep(last)
}

func (p *Proxy) pass(ctx context.Context, from net.Conn) {
	defer from.Close()
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer to.Close()
	if !p.keep(from, to) {
		return
	}
	defer p.forget(from, to)
	var group sync.WaitGroup
	group.Go(func() { p.copy(from, to) })
	group.Go(func() { p.copy(to, from) })
	group.Wait()
}

// copy ends both connections when one has ended.
func (p *Proxy) copy(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			p.flow.RLock()
			_, writeErr := to.Write(buffer[:n])
			p.flow.RUnlock()
			err = errors.Join(err, writeErr)
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) keep(both ...net.Conn) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.refuse {
		return false
	}
	for _, connection := range both {
		p.connections[connection] = true
	}
	return true
}

func (p *Proxy) forget(both ...net.Conn) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, connection := range both {
		delete(p.connections, connection)
	}
}
