/* SPDX-License-Identifier: MIT */
/* From the sizes of some keys to the memory of all of them, and how sure that is. */
#include "patterns/audit.h"

#include <math.h>

/* Squares of sizes, in 128 bits: exact for any number of keys below 2^24 and sizes below a TiB; larger ones are cut. */

#define BYTES_MAX ((INT64_C(1) << 40) - 1)
#define EXACT_COUNT (INT64_C(1) << 24)

static void multiply(uint64_t a, uint64_t b, uint64_t out[2]) {
  uint64_t a1 = a >> 32, a0 = a & UINT32_MAX, b1 = b >> 32, b0 = b & UINT32_MAX;
  uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & UINT32_MAX);
  out[0] = other << 32 | (low & UINT32_MAX);
  out[1] = a1 * b1 + (middle >> 32) + (other >> 32);
}

void rm_audit_sums_add(rm_audit_sums *sums, int64_t bytes) {
  uint64_t value = (uint64_t)(bytes < BYTES_MAX ? bytes : BYTES_MAX), square[2];
  multiply(value, value, square);
  sums->count++;
  sums->sum += value;
  sums->squares[0] += square[0];
  sums->squares[1] += square[1] + (sums->squares[0] < square[0]);
}

static double wide(uint64_t low, uint64_t high) { return ldexp((double)high, 64) + (double)low; }

/* (n * squares - sum * sum) / n, without a rounding before the subtraction. */
double rm_audit_sums_spread(const rm_audit_sums *sums) {
  double n = (double)sums->count;
  if (sums->count >= EXACT_COUNT)
    return fmax(0, wide(sums->squares[0], sums->squares[1]) - (double)sums->sum * (double)sums->sum / n);
  uint64_t left[2], right[2];
  multiply((uint64_t)sums->count, sums->squares[0], left);
  left[1] += (uint64_t)sums->count * sums->squares[1];
  multiply(sums->sum, sums->sum, right);
  uint64_t low = left[0] - right[0], high = left[1] - right[1] - (left[0] < right[0]);
  return sums->count > 0 ? wide(low, high) / n : 0;
}

/* Which keys. */

enum { ALL_PPM = 1000000 };

/* Lots are spread evenly over 64 bits. */
static bool is_drawn(uint64_t lot, int64_t ppm) { return ppm >= ALL_PPM || lot < (uint64_t)ppm * (UINT64_MAX / ALL_PPM); }

static size_t highest(const rm_audit_sample *sample) {
  size_t place = 0;
  for (size_t i = 1; i < sample->used; i++)
    if (sample->lowest[i].lot > sample->lowest[place].lot) place = i;
  return place;
}

bool rm_audit_sample_wants(const rm_audit_sample *sample, uint64_t lot, int64_t ppm) {
  if (is_drawn(lot, ppm)) return true;
  if (sample->drawn.count >= RM_AUDIT_LOWEST) return false;
  return sample->used < RM_AUDIT_LOWEST || lot < sample->lowest[highest(sample)].lot;
}

void rm_audit_sample_add(rm_audit_sample *sample, uint64_t lot, int64_t bytes, int64_t ppm) {
  if (is_drawn(lot, ppm)) rm_audit_sums_add(&sample->drawn, bytes);
  size_t place = sample->used;
  if (sample->used == RM_AUDIT_LOWEST) {
    place = highest(sample);
    if (lot >= sample->lowest[place].lot) return;
  } else {
    sample->used++;
  }
  sample->lowest[place].lot = lot;
  sample->lowest[place].bytes = bytes;
}

rm_audit_sums rm_audit_sample_sums(const rm_audit_sample *sample) {
  if (sample->drawn.count >= RM_AUDIT_LOWEST) return sample->drawn;
  rm_audit_sums sums = {0};
  for (size_t i = 0; i < sample->used; i++) rm_audit_sums_add(&sums, sample->lowest[i].bytes);
  return sums;
}

/* What follows from them. */

double rm_audit_t(int64_t freedom) {
  static const double few[] = {636.619, 31.599, 12.924, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587};
  enum { FEW = sizeof few / sizeof few[0] };
  if (freedom < 1) return INFINITY;
  if (freedom <= FEW) return few[freedom - 1];
  /* The expansion around the normal quantile: Abramowitz and Stegun, 26.7.5. */
  const double z = 3.290526731491926, z2 = z * z, v = (double)freedom;
  double g1 = z * (z2 + 1) / 4, g2 = z * ((5 * z2 + 16) * z2 + 3) / 96;
  double g3 = z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
  double g4 = z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160;
  return z + (g1 + (g2 + (g3 + g4 / v) / v) / v) / v;
}

void rm_audit_estimate_add(rm_audit_estimate *estimate, const rm_audit_sums *sums, int64_t keys) {
  if (keys == 0) return;
  double n = (double)sums->count, all = (double)keys, sum = (double)sums->sum;
  if (sums->count == 0) {
    estimate->unknown = true;
    return;
  }
  estimate->sampled += sums->count;
  estimate->measured += sum;
  if (sums->count >= keys) { /* nothing is estimated */
    estimate->bytes += sum;
    return;
  }
  estimate->bytes += all * (sum / n);
  if (sums->count < 2) {
    estimate->open = true;
    return;
  }
  estimate->variance += all * all * (rm_audit_sums_spread(sums) / (n - 1) / n) * (1 - n / all);
  estimate->worst = fmax(estimate->worst, rm_audit_t(sums->count - 1));
}

void rm_audit_estimate_merge(rm_audit_estimate *into, const rm_audit_estimate *from) {
  into->bytes += from->bytes;
  into->measured += from->measured;
  into->variance += from->variance;
  into->worst = fmax(into->worst, from->worst);
  into->unknown |= from->unknown;
  into->open |= from->open;
  into->sampled += from->sampled;
}

void rm_audit_estimate_show(const rm_audit_estimate *estimate, redmoon_audit_group *group) {
  group->sampled = estimate->sampled;
  if (estimate->unknown) {
    group->bytes = group->bytes_high = -1;
    group->bytes_low = estimate->measured;
    return;
  }
  double half = estimate->worst * sqrt(estimate->variance);
  group->bytes = estimate->bytes;
  /* What was measured is there. */
  group->bytes_low = estimate->open ? estimate->measured : fmax(estimate->bytes - half, estimate->measured);
  group->bytes_high = estimate->open ? -1 : estimate->bytes + half;
}
