/* SPDX-License-Identifier: MIT */
/* Values compressed by Zstandard.  A frame says how long its value is, and is not believed: that is held against the
 * limit before there is memory for it, and nothing is written beyond it. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/error.h"

#include <string.h>
#include <zstd.h>

enum { LEVEL = 1, LEAST_GAIN = 16 /* a sixteenth */ };

void rm_packer_fini(rm_packer *packer) {
  ZSTD_freeCCtx(atomic_exchange(&packer->in, NULL));
  ZSTD_freeDCtx(atomic_exchange(&packer->out, NULL));
}

/* A context is taken, and put back for the next one; two at the same time have one each, of which one stays. */
static ZSTD_CCtx *take_in(rm_packer *packer) {
  ZSTD_CCtx *ctx = atomic_exchange(&packer->in, NULL);
  return ctx != NULL ? ctx : ZSTD_createCCtx();
}

static ZSTD_DCtx *take_out(rm_packer *packer) {
  ZSTD_DCtx *ctx = atomic_exchange(&packer->out, NULL);
  return ctx != NULL ? ctx : ZSTD_createDCtx();
}

int rm_pack(rm_packer *packer, const void *value, size_t len, unsigned char **out, size_t *packed_len) {
  *out = NULL;
  *packed_len = 0;
  size_t room = len - len / LEAST_GAIN;
  if (room >= len) return 0;
  unsigned char *packed = rm_alloc(room);
  ZSTD_CCtx *ctx = packed != NULL ? take_in(packer) : NULL;
  size_t size = ctx != NULL ? ZSTD_compressCCtx(ctx, packed, room, value, len, LEVEL) : 0;
  if (ctx != NULL) ZSTD_freeCCtx(atomic_exchange(&packer->in, ctx));
  bool well = ctx != NULL && !ZSTD_isError(size); /* the one error to be expected is that it does not fit */
  if (!well) rm_free(packed);
  if (ctx == NULL) return REDMOON_ENOMEM;
  if (!well) return 0;
  *out = packed;
  *packed_len = size;
  return 1;
}

/* One frame and no more, of the format that is written: neither one to be skipped nor one of the formats before 0.8, whose
 * decoders the library may bring along. */
static bool is_frame(const unsigned char *packed, size_t len) {
  static const unsigned char magic[] = {0x28, 0xB5, 0x2F, 0xFD};
  return len > sizeof magic && memcmp(packed, magic, sizeof magic) == 0 && ZSTD_findFrameCompressedSize(packed, len) == len;
}

int rm_unpack(rm_packer *packer, const void *packed, size_t packed_len, int64_t max, unsigned char **out, size_t *len) {
  *out = NULL;
  if (!is_frame(packed, packed_len)) return REDMOON_ECODEC;
  unsigned long long declared = ZSTD_getFrameContentSize(packed, packed_len);
  if (declared == ZSTD_CONTENTSIZE_UNKNOWN || declared == ZSTD_CONTENTSIZE_ERROR || declared > (unsigned long long)max)
    return REDMOON_ECODEC;
  unsigned char *value = rm_alloc((size_t)declared + 1);
  ZSTD_DCtx *ctx = value != NULL ? take_out(packer) : NULL;
  size_t size = ctx != NULL ? ZSTD_decompressDCtx(ctx, value, (size_t)declared, packed, packed_len) : 0;
  if (ctx != NULL) ZSTD_freeDCtx(atomic_exchange(&packer->out, ctx));
  bool well = ctx != NULL && size == declared; /* no error is as large as that */
  if (!well) rm_free(value);
  if (ctx == NULL) return REDMOON_ENOMEM;
  if (!well) return REDMOON_ECODEC;
  value[size] = '\0';
  *out = value;
  *len = size;
  return 0;
}
