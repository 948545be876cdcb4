#include "lua/sandbox/lib.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "lua/sandbox/lib_coroutine.h"
#include "lua/sandbox/lib_pairs.h"
#include "lua/sandbox/lib_tostring.h"
#include "lua/sandbox/pattern.h"
#include "lua/value/budget.h"

#define BYTES_PER_STEP 8

/* --- What is charged, and then left to Lua's own function, in upvalue 1 ------------------------------------------ */

static int call_original(lua_State *L) {
  return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static void charge(lua_State *L, uint64_t steps) {
  flume_budget_charge(L, flume_budget_of(L), steps);
}

/* By the number of arguments, and of results. */
static int charge_values(lua_State *L) {
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_charge_values(L, budget, (uint64_t)lua_gettop(L));
  int count = call_original(L);
  flume_budget_charge_values(L, budget, (uint64_t)count);
  return count;
}

/* By the length of the first argument: a format, or a numeral. */
static int charge_text(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING) charge(L, lua_rawlen(L, 1));
  return call_original(L);
}

/* By the length of all arguments: operators that take strings for numbers. */
static int charge_texts(lua_State *L) {
  uint64_t bytes = 0;
  for (int i = lua_gettop(L); i > 0; i--) bytes += lua_type(L, i) == LUA_TSTRING ? lua_rawlen(L, i) : 0;
  charge(L, bytes / BYTES_PER_STEP);
  return call_original(L);
}

/* --- Strings ----------------------------------------------------------------------------------------------------- */

/* rep(s, n [, sep]) */
static int rep(lua_State *L) {
  size_t len, sep_len;
  luaL_checklstring(L, 1, &len);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_optlstring(L, 3, "", &sep_len);
  if (n > 1 && len + sep_len > 0) {
    uint64_t most = (uint64_t)LUA_MAXINTEGER / (len + sep_len);
    charge(L, (uint64_t)n < most ? (uint64_t)n * (len + sep_len) / BYTES_PER_STEP : UINT64_MAX);
  } else if (n > 1) {
    n = 1; /* of nothing */
    lua_pushinteger(L, n);
    lua_replace(L, 2);
  }
  return call_original(L);
}

/* ASCII, whatever the locale of the process is. */
static int change_case(lua_State *L, unsigned char first) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  luaL_Buffer out;
  char *to = luaL_buffinitsize(L, &out, len);
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)s[i];
    to[i] = (char)((unsigned char)(c - first) < 26 ? c ^ 0x20 : c);
  }
  luaL_pushresultsize(&out, len);
  return 1;
}

static int lower(lua_State *L) {
  return change_case(L, 'A');
}

static int upper(lua_State *L) {
  return change_case(L, 'a');
}

/* The conversion of the item that begins behind the % at p: its last character. */
static const char *conversion_of(const char *p, const char *end) {
  while (p < end && strchr("-+ #0123456789.", *p) != NULL && *p != '\0') p++;
  return p;
}

/* Puts names in place of what would be shown by its address, argument by argument. */
static bool name_arguments(lua_State *L, const char *format, size_t len) {
  const char *end = format + len;
  bool has_pointer = false;
  int arg = 1, last = lua_gettop(L);
  for (const char *p = format; (p = memchr(p, '%', (size_t)(end - p))) != NULL; p++) {
    p = conversion_of(p + 1, end);
    if (p >= end) break;
    if (*p == '%') continue;
    if (++arg > last) break;
    if (*p == 'p') {
      has_pointer = true;
      flume_name_push_address(L, arg);
    } else if (*p == 's' && lua_type(L, arg) >= LUA_TTABLE) {
      flume_name_tostring(L, arg, NULL);
    } else {
      continue;
    }
    lua_replace(L, arg);
  }
  return has_pointer;
}

/* The format at index 1, with %s for %p. */
static void replace_pointers(lua_State *L) {
  size_t len;
  const char *format = lua_tolstring(L, 1, &len), *end = format + len, *p = format;
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  while (p < end) {
    const char *item = p;
    if (*p++ == '%') {
      p = conversion_of(p, end);
      luaL_addlstring(&out, item, (size_t)(p - item));
      item = p < end && *p == 'p' ? "s" : p;
      if (p++ >= end) break;
    }
    luaL_addchar(&out, *item);
  }
  luaL_pushresult(&out);
  lua_replace(L, 1);
}

static int format(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  bool has_pointer = name_arguments(L, text, len);
  if (has_pointer) replace_pointers(L);
  return charge_texts(L);
}

/* --- utf8 -------------------------------------------------------------------------------------------------------- */

static lua_Integer from_start(lua_Integer pos, size_t len) {
  if (pos >= 0) return pos;
  return (size_t)-pos > len ? 0 : (lua_Integer)len + pos + 1;
}

/* len(s [, i [, j [, lax]]]) */
static int utf8_len(lua_State *L) {
  size_t len;
  luaL_checklstring(L, 1, &len);
  lua_Integer i = from_start(luaL_optinteger(L, 2, 1), len), j = from_start(luaL_optinteger(L, 3, -1), len);
  if (j > (lua_Integer)len) j = (lua_Integer)len;
  if (i >= 0 && i <= j) charge(L, (uint64_t)(j - i + 1));
  return call_original(L);
}

/* offset(s, n [, i]): by the way that it went, which is all of the string when there is no such character. */
static int utf8_offset(lua_State *L) {
  size_t len;
  luaL_checklstring(L, 1, &len);
  lua_Integer n = luaL_checkinteger(L, 2);
  lua_Integer i = from_start(luaL_optinteger(L, 3, n > 0 ? 1 : (lua_Integer)len + 1), len);
  int count = call_original(L);
  lua_Integer way = lua_isinteger(L, -1) ? lua_tointeger(L, -1) - i : (lua_Integer)len;
  charge(L, (uint64_t)(way < 0 ? -way : way));
  return count;
}

/* The iterator of codes: bytes that continue a character are passed over, however many there are. */
static int utf8_next(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  size_t start = (size_t)lua_tointeger(L, 2), i = start;
  while (i < len && ((unsigned char)s[i] & 0xc0) == 0x80) i++;
  if (i > start) charge(L, i - start);
  return call_original(L);
}

static int utf8_codes(lua_State *L) {
  int count = call_original(L);
  lua_pushvalue(L, -count);
  lua_pushcclosure(L, utf8_next, 1);
  lua_replace(L, -count - 1);
  return count;
}

/* --- Basic functions --------------------------------------------------------------------------------------------- */

static int tostring(lua_State *L) {
  luaL_checkany(L, 1);
  flume_name_tostring(L, 1, NULL);
  return 1;
}

static int print(lua_State *L) {
  int last = lua_gettop(L);
  for (int i = 1; i <= last; i++) {
    size_t len;
    const char *text = flume_name_tostring(L, i, &len);
    charge(L, len / BYTES_PER_STEP + 1);
    if (i > 1) fputc('\t', stdout);
    fwrite(text, 1, len, stdout);
    lua_pop(L, 1);
  }
  fputc('\n', stdout);
  fflush(stdout);
  return 0;
}

/* --- Putting them together --------------------------------------------------------------------------------------- */

struct wrapper {
  const char *library; /* of Lua */
  const char *name;
  lua_CFunction function; /* gets Lua's own in upvalue 1 */
};

static const struct wrapper wrappers[] = {
    {LUA_STRLIBNAME, "rep", rep},
    {LUA_STRLIBNAME, "format", format},
    {LUA_STRLIBNAME, "byte", charge_values},
    {LUA_STRLIBNAME, "char", charge_values},
    {LUA_STRLIBNAME, "pack", charge_text},
    {LUA_STRLIBNAME, "packsize", charge_text},
    {LUA_STRLIBNAME, "unpack", charge_text},
    {LUA_TABLIBNAME, "pack", charge_values},
    {LUA_UTF8LIBNAME, "char", charge_values},
    {LUA_UTF8LIBNAME, "codepoint", charge_values},
    {LUA_UTF8LIBNAME, "len", utf8_len},
    {LUA_UTF8LIBNAME, "offset", utf8_offset},
    {LUA_UTF8LIBNAME, "codes", utf8_codes},
    {LUA_GNAME, "select", charge_values},
    {LUA_GNAME, "tonumber", charge_text},
};

/* Puts the wrappers of one library of Lua into the table on top. */
static void wrap_library(lua_State *L, const char *library) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, library);
  for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
    if (strcmp(wrappers[i].library, library) != 0) continue;
    lua_getfield(L, -1, wrappers[i].name);
    lua_pushcclosure(L, wrappers[i].function, 1);
    lua_setfield(L, -4, wrappers[i].name);
  }
  lua_pop(L, 2);
}

static void push_library(lua_State *L, const char *library, const luaL_Reg *functions) {
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  wrap_library(L, library);
}

/* The functions of math, which take strings for numbers too. */
static void wrap_math(lua_State *L) {
  lua_getglobal(L, LUA_MATHLIBNAME);
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    if (!lua_iscfunction(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushcclosure(L, charge_texts, 1);
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_settable(L, -5);
  }
  lua_pop(L, 1);
}

/* The operators of strings, which take them for numbers. */
static void wrap_operators(lua_State *L) {
  static const char *const operators[] = {"__add", "__sub",  "__mul", "__mod", "__pow",
                                          "__div", "__idiv", "__unm", NULL};
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  for (const char *const *name = operators; *name != NULL; name++) {
    lua_getfield(L, -1, *name);
    lua_pushcclosure(L, charge_texts, 1);
    lua_setfield(L, -2, *name);
  }
  lua_pop(L, 2);
}

/* Copies the fields of the table on top into the string library. */
static void replace_methods(lua_State *L) {
  lua_getglobal(L, LUA_STRLIBNAME);
  lua_pushnil(L);
  lua_setfield(L, -2, "dump");
  lua_pushnil(L);
  while (lua_next(L, -3)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_settable(L, -4);
  }
  lua_pop(L, 1);
}

void flume__library_open(lua_State *L) {
  static const luaL_Reg base[] = {{"tostring", tostring}, {"print", print}, {NULL, NULL}};
  static const luaL_Reg strings[] = {{"lower", lower}, {"upper", upper}, {NULL, NULL}};
  static const luaL_Reg none[] = {{NULL, NULL}};
  lua_newtable(L);
  push_library(L, LUA_GNAME, base);
  flume__order_open(L);
  flume__catching_open(L);
  lua_setfield(L, -2, "base");
  push_library(L, LUA_STRLIBNAME, strings);
  flume__pattern_open(L);
  replace_methods(L);
  lua_setfield(L, -2, LUA_STRLIBNAME);
  push_library(L, LUA_TABLIBNAME, none);
  flume__library_open_table(L);
  lua_setfield(L, -2, LUA_TABLIBNAME);
  push_library(L, LUA_UTF8LIBNAME, none);
  lua_setfield(L, -2, LUA_UTF8LIBNAME);
  push_library(L, LUA_COLIBNAME, none);
  flume__coroutine_open(L);
  lua_setfield(L, -2, LUA_COLIBNAME);
  lua_newtable(L);
  wrap_math(L);
  lua_setfield(L, -2, LUA_MATHLIBNAME);
  lua_setfield(L, -2, "library");
  wrap_operators(L);
}
