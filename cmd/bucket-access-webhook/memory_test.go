package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"testing"
)

func TestGarbageIsHalfOfWhatLivesAnd16MiBAtLeast(t *testing.T) {
	for live := uint64(0); live < 1<<30; live += 1<<20 - 1 {
		percent := gcPercent(live)
		// Where the heap is smaller than the runtime's smallest, that counts.
		garbage := max(live, 4<<20) * uint64(percent) / 100
		want := max(16<<20, live/2)
		if garbage > want || garbage < want-want/20 {
			t.Fatalf("beside %d KiB %d KiB may be garbage; want %d KiB", live>>10, garbage>>10, want>>10)
		}
	}
}

func TestGCPercentFollowsWhatLives(t *testing.T) {
	var set []int
	h := &headroom{set: func(percent int) { set = append(set, percent) }}
	for _, live := range []uint64{0, 1 << 20, 48 << 20, 50 << 20, 46 << 20, 200 << 20, 10 << 20} {
		h.adjust(live)
	}
	want := []int{400, 50, 160}
	if !slices.Equal(set, want) {
		t.Fatalf("set to %v; want %v", set, want)
	}
}

func TestEachCollectionAdjusts(t *testing.T) {
	adjusted := make(chan int, 100)
	h := &headroom{set: func(percent int) { adjusted <- percent }}
	h.arm()
	for range 3 {
		runtime.GC()
		if percent := <-adjusted; percent < 50 || percent > 400 {
			t.Fatalf("set to %d", percent)
		}
		h.mu.Lock()
		h.percent = 0 // differs notably, whatever lives
		h.mu.Unlock()
	}
}

func TestAnOperatorsOwnGOGCCounts(t *testing.T) {
	gogc := func() uint64 {
		samples := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(samples)
		return samples[0].Value.Uint64()
	}
	before := debug.SetGCPercent(80)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	t.Setenv("GOGC", "80")
	if keepHeadroom(); gogc() != 80 {
		t.Fatalf("GOGC is %d", gogc())
	}
	t.Setenv("GOGC", "")
	if keepHeadroom(); gogc() <= 100 {
		t.Fatalf("GOGC is %d for a heap of a few MiB", gogc())
	}
}
