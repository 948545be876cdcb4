/* Reading the records of an offset log's file one after another, when it is opened and when it is followed. Each goes into
 * the scan's index. Records of zeros are collected, and so are deleted records that still have their bytes. */
#include "base/bytes.h"
#include "base/err.h"
#include "log/offset/offset_log.h"

void flume__offset_scan_init(struct flume_offset_scan *scan, struct offset_log *log, uint64_t file_bytes) {
  const struct flume_io *io = log->log.io;
  *scan = (struct flume_offset_scan){
      .index = &log->index, .off = log->data_end_off, .until_off = UINT64_MAX, .last_seq = FLUME_SEQ_MAX};
  flume_window_init(&scan->window, io, log->file->file, file_bytes);
  flume_buf_init(&scan->zeros, io);
  flume_buf_init(&scan->unzeroed, io);
}

void flume__offset_scan_fini(struct flume_offset_scan *scan) {
  flume_buf_fini(&scan->unzeroed);
  flume_buf_fini(&scan->zeros);
  flume_window_fini(&scan->window);
}

const int64_t *flume__offset_scan_zeros(const struct flume_offset_scan *scan, size_t *count) {
  *count = scan->zeros.len / sizeof(int64_t);
  return (const int64_t *)(const void *)scan->zeros.data;
}

static int fail(const struct offset_log *log, int rv, struct flume_err *err) {
  return flume_err_set(err, rv, "reading %s: %s", log->file->path, flume_strerror(rv));
}

/* Every record of zeros, and every other one that should be. */
static int sort_record(struct offset_log *log, struct flume_offset_scan *scan,
                       const struct flume_offset_record *record) {
  int64_t seq = (int64_t)record->off;
  if (record->zero) return flume_buf_append(&scan->zeros, &seq, sizeof seq);
  if (record->len == 0 || !flume_tombstones_has(&log->deleted.seqs.deleted, seq)) return 0;
  return flume_buf_append(&scan->unzeroed, &seq, sizeof seq);
}

/* Whether a crash can have torn what is in front of end_off. */
static bool is_in_doubt(const struct offset_log *log, const struct flume_offset_scan *scan, uint64_t end_off) {
  if (scan->acknowledged || !log->superblock.open) return false;
  return end_off > log->superblock.durable_off && scan->window.file_bytes <= log->superblock.limit_off;
}

/* As flume_offset_read, but a record with a hole is none. */
static int read_record(struct offset_log *log, struct flume_offset_scan *scan, struct flume_offset_record *record) {
  int rv = flume_offset_read(&scan->window, scan->off, log->file->bits, record, &scan->why);
  if (rv != 1 || !is_in_doubt(log, scan, record->end_off)) return rv;
  const uint8_t *frame;
  size_t len = (size_t)(record->end_off - record->off);
  rv = flume_window_get(&scan->window, record->off, len, &frame);
  if (rv != 0) return rv;
  scan->why = "a part of a record was not written";
  return flume_offset_has_hole(frame, len, record->off) ? 0 : 1;
}

int flume__offset_scan_records(struct offset_log *log, struct flume_offset_scan *scan, struct flume_err *err) {
  struct flume_offset_record record;
  while (scan->off < scan->window.file_bytes) {
    if (scan->off >= scan->until_off || (int64_t)scan->off > scan->last_seq) return 1;
    int rv = read_record(log, scan, &record);
    if (rv == 0) return 0;
    if (rv < 0) return fail(log, rv, err);
    rv = flume_offset_index_add(scan->index, record.off);
    if (rv == 0) rv = sort_record(log, scan, &record);
    if (rv != 0) return flume_err_nomem(err);
    scan->off = record.end_off;
  }
  return 0;
}
