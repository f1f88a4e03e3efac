/*
 * model/note.h - what there is to say about a manifest: file, line, object, field, and what was
 * expected there. One note is one sentence for a person. Notes are gathered, never printed here.
 */
#ifndef LT_MODEL_NOTE_H
#define LT_MODEL_NOTE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/vec.h"

typedef enum {
    LT_NOTE_INFO,    /* a kind or a field that lateen accepts and does not act on yet */
    LT_NOTE_WARNING, /* taken, but probably not what was meant */
    LT_NOTE_ERROR,   /* the object (or the document) is refused */
} lt_note_level;

struct lt_note {
    lt_note_level level;
    uint32_t line; /* from 1; 0: not known */
    lt_str file;   /* "" when the object came from no file */
    lt_str
        object;  /* "VirtualService shop/reviews"; "" when the document could not be read so far */
    lt_str path; /* "spec.http[0].route[1].weight"; "" for the object as a whole */
    lt_str text; /* "expected a number, got string" */
};

/* At most LT_NOTES_MAX are kept; the others are counted. */
enum { LT_NOTES_MAX = 10000 };

struct lt_notes {
    struct lt_arena *arena; /* owned; of the notes and their text */
    struct lt_vec vec;      /* struct lt_note *, in the order of their making */
    size_t dropped;
    size_t errors; /* of level LT_NOTE_ERROR, dropped ones too */
};

void lt_notes_init(struct lt_notes *notes);
void lt_notes_fini(struct lt_notes *notes);
void lt_notes_clear(struct lt_notes *notes);

static inline const struct lt_note *lt_notes_at(const struct lt_notes *notes, size_t i)
{
    return notes->vec.items[i];
}

/* Copies everything. */
void lt_notes_add(struct lt_notes *notes, const struct lt_note *note);
void lt_notes_addf(struct lt_notes *notes, const struct lt_note *where, const char *fmt, ...)
    LT_PRINTF(3, 4);

/* "info" "warning" "error". */
const char *lt_note_level_name(lt_note_level level);
/*
 * "shop.yaml:12: error: VirtualService shop/reviews: spec.http[0].timeout: expected a duration, got
 * number", cut to fit. Returns out.
 */
char *lt_note_format(const struct lt_note *note, char *out, size_t size);

/*
 * Which notes a person has been told, so that the next look at the same files tells only what is
 * new. What is mended is forgotten, and told again when it comes back. All zero to begin with.
 */
struct lt_told {
    uint64_t *hashes; /* owned; of notes, sorted */
    size_t count;
};

typedef void lt_told_fn(void *ctx, const struct lt_note *note, const char *line);
/* Calls say for each note of `lists` that was not among those of the last time. */
void lt_told_tell(struct lt_told *told, const struct lt_notes *const *lists, size_t count,
                  lt_told_fn *say, void *ctx);
void lt_told_fini(struct lt_told *told);

#endif
