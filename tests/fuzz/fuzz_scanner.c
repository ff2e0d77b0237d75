/* SPDX-License-Identifier: MIT */
/* libFuzzer: however the input is cut, the scanner finds the same frames or the same error. */
#include "wire/scanner.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is known of a frame, or how the input ended. */
typedef struct finding {
  int rc;
  size_t end, nodes, text, gap_bytes, gaps, blob_errors;
  int kind, has_double;
} finding;

static void require(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "property does not hold: %s\n", what);
  abort();
}

static finding look(rm_scanner *scanner, int rc, size_t end) {
  finding f;
  memset(&f, 0, sizeof f);
  f.rc = rc;
  if (rc != 1) return f;
  f.end = end;
  f.nodes = rm_scanner_frame(scanner)->nodes;
  f.text = rm_scanner_frame(scanner)->text;
  f.kind = (int)rm_scanner_frame(scanner)->kind;
  f.has_double = rm_scanner_frame(scanner)->has_double;
  const rm_scanner_gap *gaps = rm_scanner_frame(scanner)->gaps;
  f.gaps = rm_scanner_frame(scanner)->gap_count;
  size_t behind = 0;
  for (size_t i = 0; i < f.gaps; i++) {
    require(gaps[i].begin >= behind && gaps[i].begin < gaps[i].end && gaps[i].end < end, "gaps are in order");
    require(i == 0 || gaps[i].begin > behind, "neighbouring gaps are one");
    behind = gaps[i].end;
    f.gap_bytes += gaps[i].end - gaps[i].begin;
  }
  f.blob_errors = rm_scanner_frame(scanner)->blob_error_count;
  require(f.nodes >= 1 && f.nodes <= end / 3 + 1, "each value takes bytes");
  require(f.text <= end, "texts are part of the frame");
  return f;
}

/* The frame at the begin of `data`, given in steps: `step` bytes more each time; 0: all at once. */
static finding scan(const rm_limits *limits, const uint8_t *data, size_t size, size_t step) {
  rm_scanner *scanner = rm_scanner_new(limits);
  size_t end = 0, given = step == 0 || step > size ? size : step;
  int rc;
  while ((rc = rm_scanner_scan(scanner, (const char *)data, given, &end, NULL)) == 0 && given < size)
    given = size - given < step ? size : given + step;
  require(rc != 1 || (end > 0 && end <= given), "a frame lies within what was given");
  finding f = look(scanner, rc, end);
  rm_scanner_free(scanner);
  return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  rm_limits limits = {4096, 512, 128, 8};
  while (size > 0) {
    finding whole = scan(&limits, data, size, 0);
    static const size_t steps[] = {1, 2, 3, 7};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
      finding cut = scan(&limits, data, size, steps[i]);
      require(memcmp(&whole, &cut, sizeof whole) == 0, "any cut gives the same");
    }
    if (whole.rc != 1) break;
    data += whole.end;
    size -= whole.end;
  }
  return 0;
}
