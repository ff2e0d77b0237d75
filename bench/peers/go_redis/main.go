// SPDX-License-Identifier: MIT

// go-redis, for bench/run, bench/cluster and bench/callers:
//
//	go_redis HOST:PORT|unix:PATH|cluster:HOST:PORT WORK COUNT|SECONDSs
//	go_redis HOST:PORT|unix:PATH go_redis-<goroutines> SECONDS
//	go_redis version
package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func fail(what string, detail interface{}) {
	fmt.Fprintf(os.Stderr, "bench: %s: %v\n", what, detail)
	os.Exit(1)
}

func expect(ok bool, what string) {
	if !ok {
		fail("unexpected reply", "not "+what)
	}
}

// poolSize 0: go-redis' own, ten connections for each core that the process may use.
func openOne(address string, poolSize int) *redis.Client {
	options := &redis.Options{Addr: address, PoolSize: poolSize}
	if path := strings.TrimPrefix(address, "unix:"); path != address {
		options.Network, options.Addr = "unix", path
	}
	return redis.NewClient(options)
}

func openAny(address string) redis.UniversalClient {
	if seed := strings.TrimPrefix(address, "cluster:"); seed != address {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{seed}})
	}
	return openOne(address, 0)
}

// User and system time of this process, its collector's with it.
func cpu() (user, system float64) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail("getrusage", err)
	}
	return float64(used.Utime.Nano()) / 1e9, float64(used.Stime.Nano()) / 1e9
}

func peakKib() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fail("peak", err)
	}
	return string(regexp.MustCompile(`VmHWM:\s*(\d+)`).FindSubmatch(status)[1])
}

// Runs the work for a number of operations ("20000") or of seconds ("0.25s").
func measure(name string, w work, budget string) {
	timed := strings.HasSuffix(budget, "s")
	limit, err := strconv.ParseFloat(strings.TrimSuffix(budget, "s"), 64)
	if err != nil || limit <= 0 {
		fail("budget", "accepted: a count of operations (20000) or seconds (0.25s)")
	}
	chunk, rounds, seconds := 1, 0, 0.0
	if name == "get" || name == "set" || name == "get64k" {
		chunk = 16
	}
	w.run(true)
	user, system := cpu()
	for begin, going := time.Now(), true; going; {
		for i := 0; i < chunk; i++ {
			w.run(false)
		}
		rounds += chunk
		seconds = time.Since(begin).Seconds()
		going = timed && seconds < limit || !timed && float64(rounds) < limit
	}
	userAfter, systemAfter := cpu()
	fmt.Printf("{\"work\":\"%s\",\"ops\":%d,\"seconds\":%.6f,\"cpu_user\":%.6f,\"cpu_sys\":%.6f,\"peak_kib\":%s}\n",
		name, rounds*w.commands, seconds, userAfter-user, systemAfter-system, peakKib())
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Printf("%s, %s\n", redis.Version(), runtime.Version())
		return
	}
	if len(os.Args) != 4 {
		fail("usage", "go_redis ADDRESS WORK BUDGET")
	}
	address, name, budget := os.Args[1], os.Args[2], os.Args[3]
	if count := strings.TrimPrefix(name, "go_redis-"); count != name {
		measureCallers(address, name, count, budget)
		return
	}
	client := openAny(address)
	defer client.Close()
	w, known := works(client)[name]
	if !known {
		fail("unknown work", name)
	}
	measure(name, w, budget)
}
