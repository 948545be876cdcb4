/* require "flume.text": words of a text, for full-text search. A module of its own, so that the core does not link what
 * only this needs: utf8proc and Snowball's stemmers.
 *
 *   analyser([language]) -> function (text) -> words, terms
 *       words   a list of the words of the text, case folded and compatibility composed (NFKC), without accents
 *       terms   the same words, each as its stem, if there is a language
 *   languages() -> list of the languages whose words can be stemmed
 *
 * A word is a run of letters, digits and marks; an ideograph or a kana is one by itself. What is not UTF-8 is between
 * words. Of a word of more than 64 characters, accents counted, the rest is left out. Accents go after the stem is taken, since stemmers
 * know them: resume is found by résumé. */
#include <lauxlib.h>
#include <libstemmer.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#define ANALYSER_TYPE "flume.text.analyser"
#define WORD_MAX_CHARS 64
#define CHAR_MAX_BYTES 4
#define PARTS_MAX 8 /* of one character, decomposed canonically */
#define WORD_MAX_BYTES (WORD_MAX_CHARS * CHAR_MAX_BYTES * PARTS_MAX)

int luaopen_flume_text(lua_State *L);

struct analyser {
  struct sb_stemmer *stemmer; /* NULL: no language */
};

/* Where things are on the stack of analyse. */
enum { AT_TEXT = 1, AT_CLEAN, AT_CHARS, AT_WORDS, AT_TERMS };

/* --- Text to characters ------------------------------------------------------------------------------------------ */

/* Pushes a copy of the text in which what is not UTF-8 is spaces. */
static const utf8proc_uint8_t *push_clean(lua_State *L, const char *text, size_t len) {
  utf8proc_uint8_t *clean = lua_newuserdatauv(L, len + 1, 0);
  memcpy(clean, text, len);
  for (size_t i = 0; i < len;) {
    utf8proc_int32_t character;
    utf8proc_ssize_t read = utf8proc_iterate(clean + i, (utf8proc_ssize_t)(len - i), &character);
    if (read > 0) i += (size_t)read;
    else clean[i++] = ' ';
  }
  return clean;
}

/* Pushes the characters, case folded and decomposed; *count says how many. */
static const utf8proc_int32_t *push_characters(lua_State *L, const utf8proc_uint8_t *text, size_t len, size_t *count) {
  utf8proc_option_t options =
      UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE;
  utf8proc_ssize_t room = (utf8proc_ssize_t)len + 16, wanted;
  utf8proc_int32_t *characters = lua_newuserdatauv(L, (size_t)room * sizeof *characters, 0);
  wanted = utf8proc_decompose(text, (utf8proc_ssize_t)len, characters, room, options);
  if (wanted > room) {
    lua_pop(L, 1);
    characters = lua_newuserdatauv(L, (size_t)wanted * sizeof *characters, 0);
    wanted = utf8proc_decompose(text, (utf8proc_ssize_t)len, characters, wanted, options);
  }
  if (wanted < 0) luaL_error(L, "%s", utf8proc_errmsg(wanted));
  *count = (size_t)wanted;
  return characters;
}

/* --- Characters to words ----------------------------------------------------------------------------------------- */

enum kind { KIND_BETWEEN, KIND_LETTER, KIND_MARK, KIND_ALONE };

static bool is_alone(utf8proc_int32_t c) {
  return (c >= 0x3040 && c <= 0x30ff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x20000 && c <= 0x3ffff);
}

static enum kind kind_of(utf8proc_int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return is_alone(c) ? KIND_ALONE : KIND_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return KIND_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return KIND_MARK;
    default: return KIND_BETWEEN;
  }
}

static bool is_accent(utf8proc_int32_t c) {
  return c >= 0x300 && c <= 0x36f;
}

/* Pushes the UTF-8 text without its accents. */
static void push_without_accents(lua_State *L, const utf8proc_uint8_t *text, size_t len) {
  utf8proc_uint8_t bare[WORD_MAX_BYTES];
  size_t bare_len = 0;
  for (size_t i = 0; i < len;) {
    utf8proc_int32_t character, parts[PARTS_MAX];
    int last_boundclass = 0;
    utf8proc_ssize_t read = utf8proc_iterate(text + i, (utf8proc_ssize_t)(len - i), &character);
    if (read <= 0) break; /* a stemmer has cut it: it never does */
    i += (size_t)read;
    utf8proc_ssize_t count = utf8proc_decompose_char(character, parts, PARTS_MAX, UTF8PROC_DECOMPOSE, &last_boundclass);
    for (utf8proc_ssize_t part = 0; part < count && part < PARTS_MAX; part++) {
      if (is_accent(parts[part]) || bare_len + CHAR_MAX_BYTES > sizeof bare) continue;
      bare_len += (size_t)utf8proc_encode_char(parts[part], bare + bare_len);
    }
  }
  lua_pushlstring(L, (const char *)bare, bare_len);
}

/* Adds a word to both lists. */
static void add_word(lua_State *L, struct sb_stemmer *stemmer, utf8proc_int32_t *characters, size_t count,
                     lua_Integer place) {
  utf8proc_uint8_t word[WORD_MAX_CHARS * CHAR_MAX_BYTES];
  utf8proc_ssize_t composed =
      utf8proc_normalize_utf32(characters, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  size_t len = 0;
  for (utf8proc_ssize_t i = 0; i < composed; i++) len += (size_t)utf8proc_encode_char(characters[i], word + len);
  push_without_accents(L, word, len);
  lua_rawseti(L, AT_WORDS, place);
  const utf8proc_uint8_t *term = word;
  if (stemmer != NULL) {
    term = sb_stemmer_stem(stemmer, word, (int)len);
    if (term == NULL) luaL_error(L, "not enough memory");
    len = (size_t)sb_stemmer_length(stemmer);
  }
  push_without_accents(L, term, len);
  lua_rawseti(L, AT_TERMS, place);
}

static int analyse(lua_State *L) {
  struct analyser *self = lua_touserdata(L, lua_upvalueindex(1));
  size_t len, count;
  const char *text = luaL_checklstring(L, AT_TEXT, &len);
  luaL_argcheck(L, len <= INT32_MAX / CHAR_MAX_BYTES, AT_TEXT, "longer than 512 MiB");
  lua_settop(L, 1);
  const utf8proc_uint8_t *clean = push_clean(L, text, len);
  const utf8proc_int32_t *characters = push_characters(L, clean, len, &count);
  lua_newtable(L);
  lua_newtable(L);
  utf8proc_int32_t word[WORD_MAX_CHARS];
  size_t chars = 0;
  lua_Integer words = 0;
  for (size_t i = 0; i <= count; i++) {
    enum kind kind = i < count ? kind_of(characters[i]) : KIND_BETWEEN;
    if (kind == KIND_MARK && chars == 0) continue;
    if (chars > 0 && (kind == KIND_BETWEEN || kind == KIND_ALONE)) {
      add_word(L, self->stemmer, word, chars, ++words);
      chars = 0;
    }
    if (kind == KIND_ALONE) {
      word[0] = characters[i];
      add_word(L, self->stemmer, word, 1, ++words);
    } else if (kind != KIND_BETWEEN && chars < WORD_MAX_CHARS) {
      word[chars++] = characters[i];
    }
  }
  return 2;
}

/* --- Analysers --------------------------------------------------------------------------------------------------- */

static int analyser_gc(lua_State *L) {
  struct analyser *self = luaL_checkudata(L, 1, ANALYSER_TYPE);
  if (self->stemmer != NULL) sb_stemmer_delete(self->stemmer);
  self->stemmer = NULL;
  return 0;
}

static bool is_language(const char *name) {
  for (const char **each = sb_stemmer_list(); *each != NULL; each++) {
    if (strcmp(*each, name) == 0) return true;
  }
  return false;
}

static int analyser(lua_State *L) {
  const char *language = luaL_optstring(L, 1, NULL);
  if (language != NULL && !is_language(language)) return luaL_error(L, "no stemmer for the language %s", language);
  struct analyser *self = lua_newuserdatauv(L, sizeof *self, 0);
  self->stemmer = NULL;
  luaL_setmetatable(L, ANALYSER_TYPE);
  if (language != NULL) {
    self->stemmer = sb_stemmer_new(language, "UTF_8");
    if (self->stemmer == NULL) return luaL_error(L, "not enough memory");
  }
  lua_pushcclosure(L, analyse, 1);
  return 1;
}

static int languages(lua_State *L) {
  lua_Integer count = 0;
  lua_newtable(L);
  for (const char **each = sb_stemmer_list(); *each != NULL; each++) {
    lua_pushstring(L, *each);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

__attribute__((visibility("default"))) int luaopen_flume_text(lua_State *L) {
  static const luaL_Reg functions[] = {{"analyser", analyser}, {"languages", languages}, {NULL, NULL}};
  luaL_newmetatable(L, ANALYSER_TYPE);
  lua_pushcfunction(L, analyser_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  return 1;
}
