package api

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		o := w.options()
		o.Rate, o.Burst, o.AnonymousRead = 2, 3, true
		h, jane, joe := New(o), w.mint(t, Read), w.mint(t, Read)
		get := func(token string) (int, int) {
			got := ask(t, h, "GET", "/api/v1/version", token, "")
			after, _ := strconv.Atoi(got.Header().Get("Retry-After"))
			return got.Code, after
		}
		for i := range 3 {
			if code, _ := get(jane); code != 200 {
				t.Fatalf("request %d: %d", i, code)
			}
		}
		code, after := get(jane)
		if code != http.StatusTooManyRequests || after != 1 {
			t.Errorf("%d, Retry-After %d", code, after)
		}
		for _, other := range []string{joe, ""} {
			if code, _ := get(other); code != 200 {
				t.Errorf("somebody else: %d", code)
			}
		}
		// Refused requests cost nothing: waiting as told is enough.
		for range 100 {
			get(jane)
		}
		time.Sleep(time.Duration(after) * time.Second)
		if code, _ := get(jane); code != 200 {
			t.Errorf("after waiting as told: %d", code)
		}
	})
}

// Guessing tokens is held to the rate of the address.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		o := w.options()
		o.Rate, o.Burst = 1, 5
		h, refused := New(o), 0
		for range 100 {
			text, _, err := Mint("x", []Scope{Admin}, time.Time{})
			ok(t, err)
			if ask(t, h, "GET", "/api/v1/version", text, "").Code == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused != 95 {
			t.Errorf("%d of 100 guesses refused", refused)
		}
	})
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(1, 1)
	for i := range 3 * maxCallers {
		l.wait(fmt.Sprint(i))
	}
	if len(l.callers) != maxCallers || l.recent.Len() != maxCallers {
		t.Errorf("%d callers, %d in the list", len(l.callers), l.recent.Len())
	}
	if l.wait(fmt.Sprint(3*maxCallers-1)) == 0 {
		t.Error("the latest caller was forgotten")
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:1234": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7",
		"[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64", "[fe80::1%eth0]:80": "fe80::/64",
		"@": "unknown", "": "unknown", "192.0.2.7": "192.0.2.7",
	} {
		if got := address(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
