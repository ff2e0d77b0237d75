// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

const (
	keyCount = 1000
	value    = "0123456789abcdef"
)

// One operation; `full` asks for a look at every element, else count, first and last are checked.
type work struct {
	run      func(full bool)
	commands int // in one operation
}

var ctx = context.Background()

func keys() []string {
	made := make([]string, keyCount)
	for i := range made {
		made[i] = fmt.Sprintf("bench:key:%04d", i)
	}
	return made
}

func ok(err error) {
	if err != nil {
		fail("command", err)
	}
}

func expectString(text string, length int) {
	expect(len(text) == length, fmt.Sprintf("a string of %d bytes", length))
}

func expectStrings(values []string, count, length int, full bool) {
	expect(len(values) == count, fmt.Sprintf("an array of %d", count))
	if full {
		for _, text := range values {
			expectString(text, length)
		}
	}
	expectString(values[0], length)
	expectString(values[count-1], length)
}

func get(client redis.UniversalClient, key string, length int) {
	text, err := client.Get(ctx, key).Result()
	ok(err)
	expectString(text, length)
}

// Over several nodes, too: a client of a cluster splits it, and asks the nodes at once.
func pipeline(client redis.UniversalClient, names []string) func(full bool) {
	return func(full bool) {
		pipe := client.Pipeline()
		for _, name := range names {
			pipe.Get(ctx, name)
		}
		replies, err := pipe.Exec(ctx)
		ok(err)
		texts := make([]string, len(replies))
		for i, reply := range replies {
			texts[i] = reply.(*redis.StringCmd).Val()
		}
		expectStrings(texts, len(names), len(value), full)
	}
}

func hgetall(client redis.UniversalClient, full bool) {
	fields, err := client.HGetAll(ctx, "bench:hash").Result()
	ok(err)
	expect(len(fields) == keyCount, "a map of 1,000")
	expectString(fields["field:0000000000"], len(value))
	expectString(fields["field:0000000999"], len(value))
	if full {
		for _, text := range fields {
			expectString(text, len(value))
		}
	}
}

func mget(client redis.UniversalClient, names []string, full bool) {
	values, err := client.MGet(ctx, names...).Result()
	ok(err)
	expect(len(values) == len(names), "an array of that many")
	for i, each := range values {
		if full || i == 0 || i == len(values)-1 {
			text, isString := each.(string)
			expect(isString, "a string")
			expectString(text, len(value))
		}
	}
}

func works(client redis.UniversalClient) map[string]work {
	names, next := keys(), 0
	return map[string]work{
		"get":    {func(bool) { get(client, names[0], len(value)) }, 1},
		"get64k": {func(bool) { get(client, "bench:big", 65536) }, 1},
		"get_any": {func(bool) {
			get(client, names[next], len(value))
			next = (next + 1) % keyCount
		}, 1},
		"set": {func(bool) {
			text, err := client.Set(ctx, "bench:set", value, 0).Result()
			ok(err)
			expect(text == "OK", "OK")
		}, 1},
		"pipe100":  {pipeline(client, names[:100]), 100},
		"pipe1000": {pipeline(client, names), keyCount},
		"lrange": {func(full bool) {
			items, err := client.LRange(ctx, "bench:list", 0, -1).Result()
			ok(err)
			expectStrings(items, 10000, 32, full)
		}, 1},
		"hgetall": {func(full bool) { hgetall(client, full) }, 1},
		"mget":    {func(full bool) { mget(client, names, full) }, 1},
		// Of several slots an MGET is refused (CROSSSLOT), a pipeline is not.
		"mget100": {pipeline(client, names[:100]), 1},
	}
}
