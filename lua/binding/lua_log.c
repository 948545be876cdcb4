/* The log for Lua: a thin layer of userdata over core/flume.h. Options are checked, and callbacks turned into
 * coroutines, in lua/flume/log/init.lua. */
#include "lua/binding/lua_log.h"

#include <string.h>

#include "core/base/path.h"
#include "core/codec/json.h"
#include "lua/binding/lua_import.h"
#include "lua/binding/lua_observer.h"
#include "lua/value/block_ref.h"
#include "lua/value/box.h"
#include "lua/value/marshal.h"
#include "lua/value/record.h"

#define LOG_TYPE "flume.log"
#define KEEP_BYTES ((size_t)1 << 20)

/* User values of a log: the buffer for encoding values. */
enum { UV_BUF = 1, UV_COUNT = 1 };

static struct flume_lua_log *to_log(lua_State *L, int index) {
  return luaL_checkudata(L, index, LOG_TYPE);
}

struct flume_lua_log *flume__lua_log_check(lua_State *L, int index) {
  struct flume_lua_log *self = to_log(L, index);
  if (self->log == NULL || self->closing) luaL_error(L, "the log is closed");
  return self;
}

/* A record that is nil is pushed as flume.null: nil means that there is no record. */
static int push_packed(lua_State *L, const uint8_t *data, size_t len) {
  int rv = flume_marshal_push(L, data, len);
  if (rv != 0 || !lua_isnil(L, -1)) return rv;
  lua_pop(L, 1);
  lua_pushlightuserdata(L, NULL);
  return 0;
}

/* Pushes a box with the MessagePack of a record's JSON text. 0, or FLUME_ECORRUPT and nothing pushed. */
static int push_unpacked(lua_State *L, const uint8_t *data, uint32_t len, struct flume_buf **packed,
                         struct flume_err *err) {
  *packed = flume_box_buf(L);
  int rv = flume_json_stored_to_msgpack((const char *)data, len, *packed, err);
  if (rv == 0) return 0;
  lua_pop(L, 1);
  if (rv == FLUME_ENOMEM) luaL_error(L, "out of memory");
  flume_err_wrap(err, "not JSON");
  return err->code = FLUME_ECORRUPT;
}

int flume__value_push(lua_State *L, enum flume_codec codec, const uint8_t *data, uint32_t len, struct flume_err *err) {
  struct flume_buf *packed;
  if (codec == FLUME_CODEC_RAW) {
    lua_pushlstring(L, (const char *)data, len);
    return 0;
  }
  if (codec == FLUME_CODEC_MSGPACK) {
    return push_packed(L, data, len) == 0 ? 0 : flume_err_set(err, FLUME_ECORRUPT, "not valid MessagePack");
  }
  int rv = push_unpacked(L, data, len, &packed, err);
  if (rv != 0) return rv;
  rv = push_packed(L, packed->data, packed->len);
  flume_buf_fini(packed);
  lua_remove(L, rv == 0 ? -2 : -1);
  return rv == 0 ? 0 : flume_err_set(err, FLUME_ECORRUPT, "not a value");
}

int flume__json_push_lazy(lua_State *L, const uint8_t *data, uint32_t len, struct flume_err *err) {
  struct flume_buf *packed;
  int rv = push_unpacked(L, data, len, &packed, err);
  if (rv != 0) return rv;
  size_t size = packed->len;
  const char *bytes = lua_pushlstring(L, (const char *)packed->data, size);
  flume_buf_fini(packed);
  flume_record_push(L, (const uint8_t *)bytes, (uint32_t)size, lua_gettop(L));
  lua_insert(L, -3);
  lua_pop(L, 2);
  return 0;
}

int flume__fail_decoding(lua_State *L, int64_t seq, struct flume_err *err) {
  flume_err_wrap(err, "record %lld can't be decoded", (long long)seq);
  return flume__fail(L, err->code, err);
}

/* --- Encoding ------------------------------------------------------------------------------------------------- */

static int encode_value(lua_State *L, enum flume_codec codec, int index, struct flume_buf *out, struct flume_err *err) {
  if (codec == FLUME_CODEC_MSGPACK) return flume_marshal_encode(L, index, out, err);
  if (codec == FLUME_CODEC_RAW) {
    if (lua_type(L, index) != LUA_TSTRING) {
      return flume_err_set(err, FLUME_EINVAL, "value: a raw log takes strings, not a %s", luaL_typename(L, index));
    }
    size_t len;
    const char *data = lua_tolstring(L, index, &len);
    return flume_buf_append(out, data, len) == 0 ? 0 : flume_err_nomem(err);
  }
  struct flume_buf packed;
  flume_buf_init(&packed, out->io);
  int rv = flume_marshal_encode(L, index, &packed, err);
  if (rv == 0) rv = flume_msgpack_to_json(packed.data, packed.len, FLUME_JSON_EXACT, out, NULL, err);
  flume_buf_fini(&packed);
  return rv;
}

/* The buffer of the log at index 1, empty. */
static struct flume_buf *take_buf(lua_State *L) {
  lua_getiuservalue(L, 1, UV_BUF);
  struct flume_buf *buf = flume_box_get(L, -1);
  lua_pop(L, 1);
  if (buf->cap > KEEP_BYTES) flume_buf_fini(buf);
  buf->len = 0;
  return buf;
}

/* The slices of a batch are in the same buffer, behind the records: one allocation, freed with the box. */
static struct flume_slice *finish_slices(struct flume_buf *buf, struct flume_buf *ends, size_t count) {
  size_t pad = (8 - buf->len % 8) % 8;
  if (flume_buf_reserve(buf, pad + count * sizeof(struct flume_slice)) != 0) return NULL;
  struct flume_slice *slices = (struct flume_slice *)(void *)(buf->data + buf->len + pad);
  size_t start = 0;
  for (size_t i = 0; i < count; i++) {
    size_t end;
    memcpy(&end, ends->data + i * sizeof end, sizeof end);
    slices[i] = (struct flume_slice){buf->data + start, end - start};
    start = end;
  }
  return slices;
}

struct batch {
  struct flume_slice *slices;
  size_t count;
};

/* Encodes the value at index 2, or with is_batch each of its elements. */
static int encode_batch(lua_State *L, const struct flume_lua_log *self, bool is_batch, struct batch *batch,
                        struct flume_err *err) {
  struct flume_buf *buf = take_buf(L);
  struct flume_buf ends; /* nothing below raises while it is in use */
  flume_buf_init(&ends, buf->io);
  size_t count = is_batch ? lua_rawlen(L, 2) : 1;
  int rv = 0;
  for (size_t i = 1; i <= count && rv == 0; i++) {
    if (is_batch) lua_rawgeti(L, 2, (lua_Integer)i);
    else lua_pushvalue(L, 2);
    rv = encode_value(L, self->codec, lua_gettop(L), buf, err);
    if (rv != 0 && is_batch) flume_err_wrap(err, "record %zu of the batch", i);
    lua_pop(L, 1);
    if (rv == 0 && flume_buf_append(&ends, &buf->len, sizeof buf->len) != 0) rv = flume_err_nomem(err);
  }
  if (rv == 0) {
    batch->count = count;
    batch->slices = finish_slices(buf, &ends, count);
    if (batch->slices == NULL) rv = flume_err_nomem(err);
  }
  flume_buf_fini(&ends);
  return rv;
}

/* --- Requests with a callback ---------------------------------------------------------------------------------- */

struct request {
  struct flume_append req;
  struct flume_lua_log *self;
  int cb;  /* registry */
  int pin; /* registry: the log */
};

/* For the log at index 1; the callback is at cb_index. Raises memory errors. */
static struct request *request_new(lua_State *L, struct flume_lua_log *self, int cb_index) {
  luaL_checktype(L, cb_index, LUA_TFUNCTION);
  lua_pushvalue(L, cb_index);
  int cb = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 1);
  int pin = luaL_ref(L, LUA_REGISTRYINDEX);
  struct request *request = flume_io_zalloc(&flume_io_posix, sizeof *request);
  if (request == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    luaL_unref(L, LUA_REGISTRYINDEX, pin);
    luaL_error(L, "out of memory");
    return NULL; /* not reached */
  }
  *request = (struct request){.self = self, .cb = cb, .pin = pin};
  return request;
}

static void request_free(lua_State *L, struct request *request) {
  luaL_unref(L, LUA_REGISTRYINDEX, request->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, request->pin);
  flume_io_free(&flume_io_posix, request);
}

static void on_request(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct request *request = FLUME_CONTAINER_OF(req, struct request, req);
  struct flume_loop *loop = request->self->loop;
  lua_State *L = loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, request->cb);
  if (status == 0) lua_pushnil(L);
  else flume__push_error(L, status, err);
  lua_pushinteger(L, seq);
  request_free(L, request);
  flume__loop_call(loop, 2);
}

static int finish_submit(lua_State *L, struct request *request, int rv, const struct flume_err *err) {
  if (rv != 0) {
    request_free(L, request);
    return flume__fail(L, rv, err);
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* append(self, value, is_batch, cb) -> true | nil, message, code */
static int log_append(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct batch batch;
  struct flume_err err;
  struct request *request = request_new(L, self, 4);
  int rv = encode_batch(L, self, lua_toboolean(L, 3), &batch, &err);
  if (rv == 0) rv = flume_log_append(self->log, &request->req, batch.slices, batch.count, on_request, &err);
  return finish_submit(L, request, rv, &err);
}

/* append_wait(self, value, is_batch) -> seq | nil, message, code; EBUSY: use append */
static int log_append_wait(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct batch batch;
  struct flume_err err;
  int64_t seq = -1;
  int rv = encode_batch(L, self, lua_toboolean(L, 3), &batch, &err);
  if (rv == 0) rv = flume_log_append_wait(self->log, batch.slices, batch.count, &seq, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushinteger(L, seq);
  return 1;
}

/* Adds a line of JSON to the batch; skips an empty line. */
static int encode_line(const struct flume_lua_log *self, const char *line, size_t len, struct flume_buf *buf,
                       struct flume_buf *ends, struct flume_err *err) {
  while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t' || line[len - 1] == '\r')) len--;
  if (len == 0) return 0;
  size_t start = buf->len;
  int rv = flume_json_to_msgpack(line, len, buf, err);
  if (rv == 0 && self->codec != FLUME_CODEC_MSGPACK) { /* checked, and stored unchanged */
    buf->len = start;
    if (flume_buf_append(buf, line, len) != 0) rv = flume_err_nomem(err);
  }
  if (rv == 0 && flume_buf_append(ends, &buf->len, sizeof buf->len) != 0) rv = flume_err_nomem(err);
  return rv;
}

/* append_lines(self, text, cb) -> count | nil, message, code, line. Each line of text is the JSON of one record; all of
 * them are one batch. cb is not called when there are none. */
static int log_append_lines(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len);
  const char *end = text + len;
  if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* the byte order mark of some editors */
  struct request *request = request_new(L, self, 3);
  struct flume_buf *buf = take_buf(L), ends;
  struct flume_err err = {0};
  flume_buf_init(&ends, buf->io);
  lua_Integer line = 0;
  int rv = 0;
  while (text < end && rv == 0) {
    const char *newline = memchr(text, '\n', (size_t)(end - text));
    const char *stop = newline != NULL ? newline : end;
    line++;
    rv = encode_line(self, text, (size_t)(stop - text), buf, &ends, &err);
    text = stop + 1;
  }
  size_t count = ends.len / sizeof(size_t);
  struct flume_slice *slices = rv == 0 && count > 0 ? finish_slices(buf, &ends, count) : NULL;
  flume_buf_fini(&ends);
  if (rv == 0 && count > 0 && slices == NULL) rv = flume_err_nomem(&err);
  if (rv == 0 && count > 0) {
    line = 0;
    rv = flume_log_append(self->log, &request->req, slices, count, on_request, &err);
  }
  if (rv != 0 || count == 0) request_free(L, request);
  if (rv != 0) {
    int pushed = flume__fail(L, rv, &err);
    lua_pushinteger(L, line);
    return pushed + 1;
  }
  lua_pushinteger(L, (lua_Integer)count);
  return 1;
}

/* The MessagePack value of size bytes into the batch, in the codec of the log. */
static int encode_packed(const struct flume_lua_log *self, const uint8_t *data, size_t size, struct flume_buf *buf,
                         struct flume_buf *ends, struct flume_err *err) {
  struct flume_value v;
  const uint8_t *p = data;
  int rv = flume_msgpack_check(data, size);
  if (rv != 0) return flume_err_set(err, FLUME_EINVAL, "not a value: it is nested too deep, or no MessagePack");
  (void)flume_msgpack_read(&p, data + size, &v);
  if (self->codec == FLUME_CODEC_JSON) {
    rv = flume_msgpack_to_json(data, size, FLUME_JSON_EXACT, buf, NULL, err);
  } else if (self->codec == FLUME_CODEC_RAW && v.type != FLUME_TYPE_STR) {
    rv = flume_err_set(err, FLUME_EINVAL, "a log of raw bytes takes strings alone");
  } else if (self->codec == FLUME_CODEC_RAW) {
    rv = flume_buf_append(buf, v.str.data, v.str.len) == 0 ? 0 : flume_err_nomem(err);
  } else {
    rv = flume_buf_append(buf, data, size) == 0 ? 0 : flume_err_nomem(err);
  }
  if (rv == 0 && flume_buf_append(ends, &buf->len, sizeof buf->len) != 0) rv = flume_err_nomem(err);
  return rv;
}

/* append_packed(self, bytes, max_bytes, cb) -> count, bytes used | nil, message, code, number of the bad value. The
 * whole MessagePack values at the beginning of bytes, about max_bytes of them, are one batch, up to the first bad
 * one; cb is not called when there are none. */
static int log_append_packed(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  size_t len, max_bytes = (size_t)luaL_checkinteger(L, 3), count = 0;
  const uint8_t *bytes = (const uint8_t *)luaL_checklstring(L, 2, &len), *p = bytes, *end = bytes + len;
  struct request *request = request_new(L, self, 4);
  struct flume_buf *buf = take_buf(L), ends;
  struct flume_err err = {0};
  int rv = 0;
  flume_buf_init(&ends, buf->io);
  while (p < end && buf->len < max_bytes && rv == 0) {
    const uint8_t *value = p;
    bool is_whole = flume_msgpack_skip(&p, end) == 0;
    if (!is_whole && *value != 0xc1) break; /* no value begins with 0xc1; the rest of other values may follow */
    rv = encode_packed(self, value, (size_t)((is_whole ? p : value + 1) - value), buf, &ends, &err);
    if (rv == 0) count++;
    else p = value;
  }
  bool is_bad = rv != 0 && count == 0;
  struct flume_slice *slices = count > 0 ? finish_slices(buf, &ends, count) : NULL;
  flume_buf_fini(&ends);
  if (count > 0 && slices == NULL) rv = flume_err_nomem(&err);
  else if (count > 0) rv = flume_log_append(self->log, &request->req, slices, count, on_request, &err);
  if (rv != 0 || count == 0) request_free(L, request);
  if (rv != 0) {
    int pushed = flume__fail(L, rv, &err);
    if (!is_bad) return pushed;
    lua_pushinteger(L, 1);
    return pushed + 1;
  }
  lua_pushinteger(L, (lua_Integer)count);
  lua_pushinteger(L, p - bytes);
  return 2;
}

/* Adds up to max_bytes of records of the import to the batch. 1: there may be more; 0: the end; or an error. */
static int encode_import(const struct flume_lua_log *self, struct flume_import *import, size_t max_bytes,
                         struct flume_buf *buf, struct flume_buf *ends, struct flume_err *err) {
  while (buf->len < max_bytes) {
    int rv = self->codec == FLUME_CODEC_JSON ? flume_import_next_json(import, buf, err)
                                             : flume_import_next(import, buf, err);
    if (rv != 1) return rv;
    if (flume_buf_append(ends, &buf->len, sizeof buf->len) != 0) return flume_err_nomem(err);
  }
  return 1;
}

/* append_import(self, import, max_bytes, cb) -> count, ended [, what is wrong, code] | nil, message, code. About
 * max_bytes of records of the import are one batch, up to the first bad one; cb is not called when there are none. */
static int log_append_import(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct flume_import *import = flume__import_check(L, 2);
  if (self->codec == FLUME_CODEC_RAW) return luaL_error(L, "a log of raw bytes can't take over values");
  size_t max_bytes = (size_t)luaL_checkinteger(L, 3);
  struct request *request = request_new(L, self, 4);
  struct flume_buf *buf = take_buf(L), ends;
  struct flume_err bad, err;
  flume_buf_init(&ends, buf->io);
  int status = encode_import(self, import, max_bytes, buf, &ends, &bad), rv = 0;
  size_t count = ends.len / sizeof(size_t);
  struct flume_slice *slices = count > 0 ? finish_slices(buf, &ends, count) : NULL;
  flume_buf_fini(&ends);
  if (count > 0 && slices == NULL) rv = flume_err_nomem(&err);
  else if (count > 0) rv = flume_log_append(self->log, &request->req, slices, count, on_request, &err);
  if (rv != 0 || count == 0) request_free(L, request);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushinteger(L, (lua_Integer)count);
  lua_pushboolean(L, status == 0);
  if (status >= 0) return 2;
  lua_pushstring(L, bad.msg);
  lua_pushstring(L, flume_err_name(status));
  return 4;
}

/* sync(self, cb) -> true | nil, message, code */
static int log_sync(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct flume_err err;
  struct request *request = request_new(L, self, 2);
  int rv = flume_log_sync(self->log, &request->req, on_request, &err);
  return finish_submit(L, request, rv, &err);
}

/* del(self, seqs, cb) -> true | nil, message, code */
static int log_del(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = lua_rawlen(L, 2);
  int64_t *seqs = lua_newuserdatauv(L, (count > 0 ? count : 1) * sizeof *seqs, 0);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    seqs[i] = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
  }
  struct flume_err err;
  struct request *request = request_new(L, self, 3);
  int rv = flume_log_del(self->log, &request->req, seqs, count, on_request, &err);
  return finish_submit(L, request, rv, &err);
}

/* --- Reading --------------------------------------------------------------------------------------------------- */

/* Pushes the block of record seq, and gives its bytes. */
static int read_record(lua_State *L, struct flume_lua_log *self, int64_t seq, struct flume_record *record,
                       struct flume_err *err) {
  int rv = flume_log_get(self->log, seq, record, err);
  if (rv == 0) flume__block_push(L, record->block); /* Lua owns the reference from here on */
  return rv;
}

/* keep_order(self): from now on get and get_list return lazy records, which keep the order of their keys. */
static int log_keep_order(lua_State *L) {
  flume__lua_log_check(L, 1)->keeps_order = true;
  return 0;
}

/* Pushes the value of the record that read_record has pushed the block of. */
static int push_value(lua_State *L, const struct flume_lua_log *self, const struct flume_record *record,
                      struct flume_err *err) {
  if (!self->keeps_order || self->codec == FLUME_CODEC_RAW) {
    return flume__value_push(L, self->codec, record->data, record->len, err);
  }
  if (self->codec == FLUME_CODEC_JSON) return flume__json_push_lazy(L, record->data, record->len, err);
  flume_record_push(L, record->data, record->len, lua_gettop(L));
  if (!lua_isnil(L, -1)) return 0;
  lua_pop(L, 1);
  lua_pushlightuserdata(L, NULL);
  return 0;
}

/* get(self, seq) -> true, value | nil, message, code */
static int log_get(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct flume_record record;
  struct flume_err err;
  int64_t seq = luaL_checkinteger(L, 2);
  int rv = read_record(L, self, seq, &record, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  rv = push_value(L, self, &record, &err);
  if (rv != 0) return flume__fail_decoding(L, seq, &err);
  lua_pushboolean(L, 1);
  lua_insert(L, -2);
  return 2;
}

/* record(self, seq) -> lazy record or plain value | nil, message, code; of a log of MessagePack */
static int log_record(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct flume_record record;
  struct flume_err err;
  int rv = read_record(L, self, luaL_checkinteger(L, 2), &record, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  flume_record_push(L, record.data, record.len, lua_gettop(L));
  return 1;
}

/* get_list(self, seqs, from, count, values) -> how many tables | nil, message, code: puts the values of seqs[from] to
 * seqs[from + count - 1] into values, at the same places; nil for what was deleted */
static int log_get_list(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  lua_Integer from = luaL_checkinteger(L, 3), count = luaL_checkinteger(L, 4), tables = 0;
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 5, LUA_TTABLE);
  for (lua_Integer i = from; i < from + count; i++) {
    struct flume_record record;
    struct flume_err err;
    lua_settop(L, 5);
    lua_rawgeti(L, 2, i);
    int64_t seq = luaL_checkinteger(L, -1);
    int rv = read_record(L, self, seq, &record, &err);
    if (rv == FLUME_EDELETED || rv == FLUME_ENOENT) continue;
    if (rv != 0) return flume__fail(L, rv, &err);
    rv = push_value(L, self, &record, &err);
    if (rv != 0) return flume__fail_decoding(L, seq, &err);
    if (lua_istable(L, -1)) tables++;
    lua_rawseti(L, 5, i);
  }
  lua_pushinteger(L, tables);
  return 1;
}

static int log_since(lua_State *L) {
  struct flume_lua_log *self = to_log(L, 1);
  if (self->log == NULL) return 0;
  lua_pushinteger(L, flume_log_since(self->log));
  return 1;
}

static int log_deletions(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  lua_pushinteger(L, flume__log_deleted_count(self->log, flume_log_since(self->log)));
  return 1;
}

/* deletion_count(self) -> the number of deletions so far; their ordinals are below it */
static int log_deletion_count(lua_State *L) {
  lua_pushinteger(L, flume__lua_log_check(L, 1)->log->deletions.value);
  return 1;
}

/* deletion_at(self, ordinal) -> the deleted seq; -1: not known any more */
static int log_deletion_at(lua_State *L) {
  struct flume_log *log = flume__lua_log_check(L, 1)->log;
  lua_Integer number = luaL_checkinteger(L, 2);
  luaL_argcheck(L, number >= 0 && number < log->deletions.value, 2, "there was no such deletion");
  lua_pushinteger(L, flume__log_deletion_at(log, number));
  return 1;
}

/* deleted(self, seq) -> true, the value that a deleted record had | nil, message, code */
static int log_deleted(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  lua_Integer seq = luaL_checkinteger(L, 2);
  struct flume_block *block;
  struct flume_err err;
  int rv = flume__log_read_deleted(self->log, seq, &block, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  flume__block_push(L, block); /* from here on the reference is Lua's */
  uint32_t len = 0;
  const uint8_t *data = flume_block_get(block, 0, &len);
  lua_pushboolean(L, 1);
  rv = flume__value_push(L, self->codec, data, len, &err);
  return rv == 0 ? 2 : flume__fail_decoding(L, seq, &err);
}

/* observe_deletions(self, fn) -> observer with a method stop; fn(deletion_count) */
static int log_observe_deletions(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  flume__observe(L, self->loop, &self->log->deletions, 2);
  return 1;
}

static int log_id(lua_State *L) {
  lua_pushlstring(L, (const char *)flume_log_id(flume__lua_log_check(L, 1)->log), 16);
  return 1;
}

/* kind(self) -> "file" | "memory" | "offset" */
static int log_kind(lua_State *L) {
  lua_pushstring(L, flume__lua_log_check(L, 1)->log->ops->kind);
  return 1;
}

/* following(self) -> "events" | "poll" | "lost", why; nothing for a log that does not follow a writer */
static int log_following(lua_State *L) {
  static const char *const words[] = {NULL, "events", "poll", "lost"};
  struct flume_err why = {0};
  enum flume_following following = flume_log_following(flume__lua_log_check(L, 1)->log, &why);
  if (following == FLUME_FOLLOWING_NONE) return 0;
  lua_pushstring(L, words[following]);
  if (following == FLUME_FOLLOWING_EVENTS) return 1;
  lua_pushstring(L, why.msg);
  return 2;
}

/* observe(self, fn) -> observer with a method stop; fn(since) */
static int log_observe(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  flume__observe(L, self->loop, &self->log->since, 2);
  return 1;
}

/* --- Opening and closing ---------------------------------------------------------------------------------------- */

struct closing {
  struct flume_lua_log *self;
  int cb;
  int pin;
};

static void on_closed(void *data) {
  struct closing *closing = data;
  struct flume_loop *loop = closing->self->loop;
  lua_State *L = loop->L;
  closing->self->log = NULL;
  lua_rawgeti(L, LUA_REGISTRYINDEX, closing->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, closing->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, closing->pin);
  flume_io_free(&flume_io_posix, closing);
  flume__loop_call(loop, 0);
}

/* close(self, cb) */
static int log_close(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  int cb = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 1);
  int pin = luaL_ref(L, LUA_REGISTRYINDEX);
  struct closing *closing = flume_io_zalloc(&flume_io_posix, sizeof *closing);
  if (closing == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    luaL_unref(L, LUA_REGISTRYINDEX, pin);
    return luaL_error(L, "out of memory");
  }
  *closing = (struct closing){.self = self, .cb = cb, .pin = pin};
  self->closing = true;
  flume_log_close(self->log, on_closed, closing);
  return 0;
}

static void on_gc_closed(void *data) {
  *(bool *)data = true;
}

/* Closes a log that was collected unclosed. All acknowledged records are on disk already; this ends the log in
 * order. */
static int log_gc(lua_State *L) {
  struct flume_lua_log *self = to_log(L, 1);
  if (self->log == NULL || self->closing || flume__loop_is_inherited(self->loop) || self->loop->pool == NULL) return 0;
  bool closed = false;
  self->closing = true;
  flume_log_close(self->log, on_gc_closed, &closed);
  while (!closed && uv_run(self->loop->loop, UV_RUN_ONCE) != 0) continue;
  self->log = NULL;
  return 0;
}

static void push_log_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {{"append", log_append},
                                     {"append_wait", log_append_wait},
                                     {"append_lines", log_append_lines},
                                     {"append_import", log_append_import},
                                     {"append_packed", log_append_packed},
                                     {"keep_order", log_keep_order},
                                     {"sync", log_sync},
                                     {"del", log_del},
                                     {"get", log_get},
                                     {"record", log_record},
                                     {"get_list", log_get_list},
                                     {"since", log_since},
                                     {"deletions", log_deletions},
                                     {"deletion_count", log_deletion_count},
                                     {"deletion_at", log_deletion_at},
                                     {"deleted", log_deleted},
                                     {"observe_deletions", log_observe_deletions},
                                     {"id", log_id},
                                     {"kind", log_kind},
                                     {"following", log_following},
                                     {"observe", log_observe},
                                     {"close", log_close},
                                     {"__gc", log_gc},
                                     {NULL, NULL}};
  if (luaL_newmetatable(L, LOG_TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  luaL_setfuncs(L, flume__log_maintenance, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

static struct flume_lua_log *log_new(lua_State *L, int options_index) {
  static const char *const codecs[] = {"msgpack", "json", "raw", NULL};
  struct flume_loop *loop = flume__loop_get(L);
  lua_getfield(L, options_index, "codec");
  int codec = luaL_checkoption(L, -1, "msgpack", codecs);
  lua_pop(L, 1);
  struct flume_lua_log *self = lua_newuserdatauv(L, sizeof *self, UV_COUNT);
  *self = (struct flume_lua_log){.loop = loop, .codec = (enum flume_codec)codec};
  flume_box_buf(L);
  lua_setiuservalue(L, -2, UV_BUF);
  push_log_metatable(L);
  lua_setmetatable(L, -2);
  return self;
}

static lua_Integer integer_field(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  lua_Integer value = luaL_optinteger(L, -1, 0);
  lua_pop(L, 1);
  return value;
}

static bool boolean_field(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static struct flume_log_options read_options(lua_State *L, int index) {
  static const char *const modes[] = {"always", "interval", "os", NULL};
  lua_getfield(L, index, "sync");
  int sync = luaL_checkoption(L, -1, "always", modes);
  lua_pop(L, 1);
  return (struct flume_log_options){
      .sync = (enum flume_sync)sync,
      .interval_ms = (uint32_t)integer_field(L, index, "interval_ms"),
      .max_record_bytes = (uint32_t)integer_field(L, index, "max_record_bytes"),
      .segment_bytes = (uint64_t)integer_field(L, index, "segment_bytes"),
      .readonly = boolean_field(L, index, "readonly"),
      .damaged = boolean_field(L, index, "damaged"),
      .poll_ms = (uint32_t)integer_field(L, index, "poll_ms"),
  };
}

/* open_file(dir, options) -> log | nil, message, code */
static int open_file(lua_State *L) {
  const char *dir = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  struct flume_log_options options = read_options(L, 2);
  struct flume_lua_log *self = log_new(L, 2);
  struct flume_err err;
  int rv = flume_log_open(&self->log, self->loop->loop, dir, &options, &err);
  return rv == 0 ? 1 : flume__fail(L, rv, &err);
}

/* open_offset(path, options) -> log | nil, message, code */
static int open_offset(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  struct flume_log_options options = read_options(L, 2);
  options.offset_bits = (uint32_t)integer_field(L, 2, "bits");
  struct flume_lua_log *self = log_new(L, 2);
  struct flume_err err;
  int rv = flume_log_open_offset(&self->log, self->loop->loop, path, &options, &err);
  return rv == 0 ? 1 : flume__fail(L, rv, &err);
}

/* open_memory(options) -> log | nil, message, code */
static int open_memory(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  struct flume_log_options options = read_options(L, 1);
  struct flume_lua_log *self = log_new(L, 1);
  struct flume_err err;
  int rv = flume_log_open_memory(&self->log, self->loop->loop, &options, &err);
  return rv == 0 ? 1 : flume__fail(L, rv, &err);
}

/* absolute(path) -> path. What path names now, whatever the working directory is later. One that is too long is given back
 * as it is: opening it says so. */
static int absolute(lua_State *L) {
  char path[FLUME_PATH_MAX];
  const char *given = luaL_checkstring(L, 1);
  lua_pushstring(L, flume_path_absolute(path, sizeof path, given) == 0 ? path : given);
  return 1;
}

void flume__log_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"open_file", open_file},      {"open_offset", open_offset},
                                       {"open_memory", open_memory},  {"absolute", absolute},
                                       {"repair", flume__log_repair}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
