// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	callersMax = 1024
	pool       = 20    // as Redmoon's
	buckets    = 20000 // of a microsecond each
)

type caller struct {
	ops  int
	late [buckets]int
}

func p99(callers []caller, ops int) int {
	seen := 0
	for us := 0; us < buckets; us++ {
		for i := range callers {
			seen += callers[i].late[us]
		}
		if seen >= ops-ops/100 {
			return us
		}
	}
	return buckets
}

// Many goroutines on one client, each a GET after the other, as callers.c does it with threads.
func measureCallers(address, name, countText, secondsText string) {
	count, err := strconv.Atoi(countText)
	if err != nil || count < 1 || count > callersMax {
		fail("usage", "from 1 to 1024 goroutines")
	}
	limit, err := strconv.ParseFloat(secondsText, 64)
	if err != nil || limit <= 0 {
		fail("usage", "seconds")
	}
	client := openOne(address, pool)
	defer client.Close()
	callers := make([]caller, count)
	var stopped atomic.Bool
	var running sync.WaitGroup
	running.Add(count)
	user, system := cpu()
	begin := time.Now()
	for i := range callers {
		go func(self *caller) {
			defer running.Done()
			for !stopped.Load() {
				began := time.Now()
				get(client, "bench:key:0000", len(value))
				took := int(time.Since(began).Microseconds())
				if took >= buckets {
					took = buckets - 1
				}
				self.late[took]++
				self.ops++
			}
		}(&callers[i])
	}
	time.Sleep(time.Duration(limit * float64(time.Second)))
	stopped.Store(true)
	running.Wait()
	seconds := time.Since(begin).Seconds()
	userAfter, systemAfter := cpu()
	ops := 0
	for i := range callers {
		ops += callers[i].ops
	}
	used := userAfter - user + systemAfter - system
	fmt.Printf("{\"work\":\"%s\",\"ops\":%d,\"seconds\":%.6f,\"cpu_us\":%.3f,\"p99_us\":%d}\n",
		name, ops, seconds, used*1e6/float64(ops), p99(callers, ops))
}
