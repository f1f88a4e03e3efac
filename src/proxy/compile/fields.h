/*
 * proxy/compile/fields.h - every field of Envoy's API that can stand in a resource, and what
 * becomes of it here: one table (fields_*.def), of which docs/compatibility.md is made, too, and
 * one walker that holds each resource to it when its compiler is done. Decision 23.
 * Not in it: what a compiler decides by a field's value; it lists or refuses that itself.
 * Start at: px_check_fields().
 */
#ifndef LT_PROXY_COMPILE_FIELDS_H
#define LT_PROXY_COMPILE_FIELDS_H

#include "proxy/compile/build.h"

typedef enum {
    PX_FIELD_MISSING,   /* in no row: a test fails, and at run time it is as if it were unknown */
    PX_FIELD_HONOURED,  /* it does what it does in Envoy */
    PX_FIELD_CHECKED,   /* its compiler looks at the value, lists or refuses some */
    PX_FIELD_NO_EFFECT, /* nothing would be seen of it, or it does here what it asks for anyway */
    PX_FIELD_IGNORED,   /* listed when it is said */
    PX_FIELD_REFUSED,   /* refuses the resource when it is said */
} px_field_verdict;

/* One line of fields_*.def. */
typedef enum {
    PX_ROW_MESSAGE, /* names: the message that the rows behind it are of */
    PX_ROW_GUARD,   /* likewise; what is not known of it refuses the resource */
    PX_ROW_AT,      /* the same message once more, for these "<message>.<field>" alone (why) */
    PX_ROW_WHOLE,   /* names: a message all of whose fields have that verdict */
    PX_ROW_FIELDS,  /* names: fields, by blanks; "!x": false is what says something (x is true by
                       itself), "-x": what is inside of x is not looked at */
    PX_ROW_TAKES,   /* names: an Any; why: the types that count there, by blanks */
} px_field_row_kind;

struct px_field_row {
    px_field_row_kind kind;
    px_field_verdict verdict;
    const char *names;
    const char *why;
};

/* The table as it stands; for the index, for tests and for the page of the documentation. */
const struct px_field_row *px_field_rows(size_t *ret_count);

/* --- the index: the table by descriptors --- */

struct px_kind;

struct px_field {
    const ProtobufCFieldDescriptor *field;
    const struct px_kind *inner; /* of a message, of what is in such bytes; NULL: no message */
    const char *why;
    uint8_t verdict; /* px_field_verdict */
    bool is_any, is_map;
    bool is_closed;  /* "-x" */
    bool false_says; /* "!x" */
};

/* A message type; or one in a certain place. */
struct px_kind {
    const ProtobufCMessageDescriptor *type;
    const struct px_field *all;           /* as in the descriptor; NULL: see whole */
    const struct px_field *const *looked; /* those of which something may come */
    uint32_t look_count;
    uint8_t whole;   /* px_field_verdict of all its fields, or PX_FIELD_MISSING */
    bool is_guard;   /* what is not known of it could have forbidden something */
    bool has_guard;  /* it is one, or holds one */
    bool has_work;   /* something may come of it */
    const char *why; /* of whole */
};

struct px_fields;
struct px_fields *px_fields_new(void);
void px_fields_free(struct px_fields **fields);
/* NULL: a well-known type, of which nothing can be left out. */
const struct px_kind *px_fields_find(struct px_fields *fields,
                                     const ProtobufCMessageDescriptor *type);

/* --- the walker --- */

/*
 * message was compiled with build: what it says and what nobody read is listed there
 * (px_unhonoured), or refuses it. unknowns: of its bytes.
 */
LT_MUST lt_rc px_check_fields(struct px_build *build, const void *message,
                              const struct lt_pb_unknowns *unknowns);

#endif
