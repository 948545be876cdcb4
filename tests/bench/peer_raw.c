/* The limit: records framed with length and CRC-32C in a plain file. Reading does not check the CRC. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "bench.h"

#define HEADER_BYTES 8
#define READ_BYTES ((size_t)1 << 20)
#define ZERO_BYTES ((size_t)1 << 20)

static int open_file(const struct bench_job *job, int flags) {
  char path[4096];
  int file = open(bench_path(path, job->dir, "raw"), flags | O_CLOEXEC, 0666);
  if (file < 0) bench_die("opening %s failed", path);
  return file;
}

static void sync_file(int file) {
  if (fdatasync(file) != 0) bench_die("fdatasync failed");
}

static uint8_t *put_batch(uint8_t *out, const struct flume_slice *records, size_t count) {
  for (size_t i = 0; i < count; i++) {
    flume_put_le32(out, (uint32_t)records[i].len);
    flume_put_le32(out + 4, flume_crc32c(0, records[i].data, records[i].len));
    memcpy(out + HEADER_BYTES, records[i].data, records[i].len);
    out += HEADER_BYTES + records[i].len;
  }
  return out;
}

static off_t write_all(int file, const struct bench_job *job, uint8_t *buffer) {
  off_t off = 0;
  for (size_t at = 0; at < job->count; at += job->batch) {
    size_t count = job->count - at < job->batch ? job->count - at : job->batch;
    size_t len = (size_t)(put_batch(buffer, job->data->records + at, count) - buffer);
    if (pwrite(file, buffer, len, off) != (ssize_t)len) bench_die("writing a raw file failed");
    off += (off_t)len;
    if (job->durable == BENCH_DURABLE_EACH) sync_file(file);
  }
  if (job->durable == BENCH_DURABLE_END) sync_file(file);
  return off;
}

static uint64_t timed_write(int file, const struct bench_job *job) {
  uint8_t *buffer = bench_alloc(job->batch * 1024);
  uint64_t start = bench_now_ns();
  off_t end = write_all(file, job, buffer);
  uint64_t time_ns = bench_now_ns() - start;
  if (ftruncate(file, end) != 0) bench_die("truncating a raw file failed");
  free(buffer);
  close(file);
  return time_ns;
}

static uint64_t raw_append(const struct bench_job *job) {
  return timed_write(open_file(job, O_RDWR | O_CREAT | O_TRUNC), job);
}

/* As a database does that zeroes its file ahead: a sync then has no new size and no new blocks to record. */
static uint64_t prewritten_append(const struct bench_job *job) {
  int file = open_file(job, O_RDWR | O_CREAT | O_TRUNC);
  uint8_t *zeros = bench_alloc(ZERO_BYTES);
  memset(zeros, 0, ZERO_BYTES);
  for (size_t len = 0; len < job->count * 320; len += ZERO_BYTES) {
    if (write(file, zeros, ZERO_BYTES) != (ssize_t)ZERO_BYTES) bench_die("writing a raw file failed");
  }
  free(zeros);
  if (fsync(file) != 0) bench_die("fsync failed");
  return timed_write(file, job);
}

/* Adds up the whole records in buffer; returns how many bytes they were. */
static size_t walk(const uint8_t *buffer, size_t len, struct bench_tally *tally) {
  size_t at = 0;
  while (len - at >= HEADER_BYTES) {
    size_t record_len = flume_get_le32(buffer + at);
    if (len - at - HEADER_BYTES < record_len) break;
    bench_tally_add(tally, buffer + at + HEADER_BYTES, record_len);
    at += HEADER_BYTES + record_len;
  }
  return at;
}

static uint64_t raw_scan(const struct bench_job *job, struct bench_tally *tally) {
  int file = open_file(job, O_RDONLY);
  uint8_t *buffer = bench_alloc(READ_BYTES);
  uint64_t start = bench_now_ns();
  size_t have = 0;
  for (;;) {
    ssize_t n = read(file, buffer + have, READ_BYTES - have);
    if (n < 0) bench_die("reading a raw file failed");
    if (n == 0) break;
    have += (size_t)n;
    size_t used = walk(buffer, have, tally);
    have -= used;
    memmove(buffer, buffer + used, have);
  }
  uint64_t time_ns = bench_now_ns() - start;
  free(buffer);
  close(file);
  return time_ns;
}

static uint64_t *find_offsets(const struct bench_job *job) {
  uint64_t *offsets = bench_alloc((job->count + 1) * sizeof *offsets);
  offsets[0] = 0;
  for (size_t i = 0; i < job->count; i++) offsets[i + 1] = offsets[i] + HEADER_BYTES + job->data->records[i].len;
  return offsets;
}

static void get_one(int file, const uint64_t *offsets, size_t seq, struct bench_tally *tally) {
  uint8_t buffer[1024];
  size_t len = (size_t)(offsets[seq + 1] - offsets[seq]);
  if (pread(file, buffer, len, (off_t)offsets[seq]) != (ssize_t)len) bench_die("reading a raw file failed");
  bench_tally_add(tally, buffer + HEADER_BYTES, flume_get_le32(buffer));
}

static uint64_t raw_get(const struct bench_job *job, struct bench_tally *tally) {
  int file = open_file(job, O_RDONLY);
  uint64_t *offsets = find_offsets(job);
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < job->picks_count; i++) get_one(file, offsets, job->picks[i], tally);
  uint64_t time_ns = bench_now_ns() - start;
  free(offsets);
  close(file);
  return time_ns;
}

static uint64_t raw_open(const struct bench_job *job, struct bench_tally *tally) {
  uint64_t *offsets = find_offsets(job);
  uint64_t start = bench_now_ns();
  int file = open_file(job, O_RDONLY);
  get_one(file, offsets, job->count - 1, tally);
  uint64_t time_ns = bench_now_ns() - start;
  free(offsets);
  close(file);
  return time_ns;
}

const struct bench_peer bench_raw = {
    .name = "raw", .append = raw_append, .scan = raw_scan, .get = raw_get, .open = raw_open};

const struct bench_peer bench_raw_prewritten = {
    .name = "raw-prewritten", .append = prewritten_append, .scan = raw_scan};
