/* SPDX-License-Identifier: MIT */
/** Other names for everything the bundled hiredis reader defines.  Included ahead of each file that sees hiredis, so that
 *  a program may have a hiredis of its own, of any version, beside ours. */
#ifndef RM_HIREDIS_NAMES_H
#define RM_HIREDIS_NAMES_H

#define hex_digit_to_int rm_hiredis_hex_digit_to_int
#define hiredisAllocFns rm_hiredis_hiredisAllocFns
#define hiredisResetAllocators rm_hiredis_hiredisResetAllocators
#define hiredisSetAllocators rm_hiredis_hiredisSetAllocators
#define redisReaderCreateWithFunctions rm_hiredis_redisReaderCreateWithFunctions
#define redisReaderFeed rm_hiredis_redisReaderFeed
#define redisReaderFree rm_hiredis_redisReaderFree
#define redisReaderGetReply rm_hiredis_redisReaderGetReply
#define sdsAllocPtr rm_hiredis_sdsAllocPtr
#define sdsAllocSize rm_hiredis_sdsAllocSize
#define sdsIncrLen rm_hiredis_sdsIncrLen
#define sdsMakeRoomFor rm_hiredis_sdsMakeRoomFor
#define sdsRemoveFreeSpace rm_hiredis_sdsRemoveFreeSpace
#define sds_free rm_hiredis_sds_free
#define sds_malloc rm_hiredis_sds_malloc
#define sds_realloc rm_hiredis_sds_realloc
#define sdscat rm_hiredis_sdscat
#define sdscatfmt rm_hiredis_sdscatfmt
#define sdscatlen rm_hiredis_sdscatlen
#define sdscatprintf rm_hiredis_sdscatprintf
#define sdscatrepr rm_hiredis_sdscatrepr
#define sdscatsds rm_hiredis_sdscatsds
#define sdscatvprintf rm_hiredis_sdscatvprintf
#define sdsclear rm_hiredis_sdsclear
#define sdscmp rm_hiredis_sdscmp
#define sdscpy rm_hiredis_sdscpy
#define sdscpylen rm_hiredis_sdscpylen
#define sdsdup rm_hiredis_sdsdup
#define sdsempty rm_hiredis_sdsempty
#define sdsfree rm_hiredis_sdsfree
#define sdsfreesplitres rm_hiredis_sdsfreesplitres
#define sdsfromlonglong rm_hiredis_sdsfromlonglong
#define sdsgrowzero rm_hiredis_sdsgrowzero
#define sdsjoin rm_hiredis_sdsjoin
#define sdsjoinsds rm_hiredis_sdsjoinsds
#define sdsll2str rm_hiredis_sdsll2str
#define sdsmapchars rm_hiredis_sdsmapchars
#define sdsnew rm_hiredis_sdsnew
#define sdsnewlen rm_hiredis_sdsnewlen
#define sdsrange rm_hiredis_sdsrange
#define sdssplitargs rm_hiredis_sdssplitargs
#define sdssplitlen rm_hiredis_sdssplitlen
#define sdstolower rm_hiredis_sdstolower
#define sdstoupper rm_hiredis_sdstoupper
#define sdstrim rm_hiredis_sdstrim
#define sdsull2str rm_hiredis_sdsull2str
#define sdsupdatelen rm_hiredis_sdsupdatelen

#endif
