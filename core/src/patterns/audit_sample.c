/* SPDX-License-Identifier: MIT */
/* From the sizes of some keys to the memory of all of them, and how sure that is. */
#include "patterns/audit.h"

#include <math.h>

void rm_audit_sample_add(rm_audit_sample *sample, double bytes) {
  sample->count++;
  sample->sum += bytes;
  double off = bytes - sample->mean;
  sample->mean += off / (double)sample->count;
  sample->m2 += off * (bytes - sample->mean);
}

double rm_audit_t(int64_t freedom) {
  static const double few[] = {636.619, 31.599, 12.924, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587};
  enum { FEW = sizeof few / sizeof few[0] };
  if (freedom < 1) return INFINITY;
  if (freedom <= FEW) return few[freedom - 1];
  /* The expansion around the normal quantile: Abramowitz and Stegun, 26.7.5. */
  const double z = 3.290526731491926, z2 = z * z, v = (double)freedom;
  double g1 = z * (z2 + 1) / 4, g2 = z * ((5 * z2 + 16) * z2 + 3) / 96, g3 = z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
  return z + g1 / v + g2 / (v * v) + g3 / (v * v * v);
}

void rm_audit_estimate_add(rm_audit_estimate *estimate, const rm_audit_sample *sample, int64_t keys) {
  if (keys == 0) return;
  double n = (double)sample->count, all = (double)keys;
  if (sample->count == 0) {
    estimate->unknown = true;
    return;
  }
  estimate->sampled += sample->count;
  estimate->measured += sample->sum;
  if (sample->count >= keys) { /* nothing is estimated */
    estimate->bytes += sample->sum;
    return;
  }
  estimate->bytes += all * sample->mean;
  if (sample->count < 2) {
    estimate->open = true;
    return;
  }
  double spread = sample->m2 > 0 ? sample->m2 / (n - 1) : 0;
  estimate->variance += all * all * (spread / n) * (1 - n / all);
  estimate->worst = fmax(estimate->worst, rm_audit_t(sample->count - 1));
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
