package api

import (
	"container/list"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxCallers bounds the table of limiters. Who is pushed out of it starts anew;
// an attacker with so many addresses is not stopped by a rate per address.
const maxCallers = 10_000

// limiter holds everybody to a rate of requests.
type limiter struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex               // guards the following fields
	callers map[string]*list.Element // caller -> its *caller in recent
	recent  *list.List               // the latest first
}

type caller struct {
	name  string
	limit *rate.Limiter
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: max(burst, 1), callers: map[string]*list.Element{}, recent: list.New()}
}

// wait is how long a caller has to wait until its next request, 0 for not at all.
func (l *limiter) wait(name string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.callers[name]
	if e == nil {
		e = l.recent.PushFront(&caller{name, rate.NewLimiter(l.rate, l.burst)})
		l.callers[name] = e
		if l.recent.Len() > maxCallers {
			old := l.recent.Remove(l.recent.Back()).(*caller)
			delete(l.callers, old.name)
		}
	}
	l.recent.MoveToFront(e)
	r := e.Value.(*caller).limit.Reserve()
	d := r.Delay()
	if d > 0 {
		r.Cancel() // a refused request costs nothing
	}
	return d
}

// retryAfter is a wait in whole seconds, as the header has it.
func retryAfter(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// address names who has no token: an IPv4 address, or the /64 that one
// subscriber of IPv6 has.
func address(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "unknown" // all of them together
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.String()
	}
	return a.String()
}
