/*
 * wire/yaml.h - YAML text to lt_doc, over libyaml.
 * Plain scalars become what Kubernetes makes of them (sigs.k8s.io/yaml, YAML 1.1 in part):
 * yes/no/on/off/y/n are bools, 0644 and 0x1f numbers, 1_000 a number, a date a string; a key that
 * isn't a string becomes its text. Anchors, aliases and merge keys ("<<") work; a key written
 * twice is an error.
 * Trust: every text is a stranger's.
 */
#ifndef LT_WIRE_YAML_H
#define LT_WIRE_YAML_H

#include "wire/doc.h"

/*
 * A file may hold many documents. They are told apart by their "---" lines before anything is
 * parsed (at the start of a line the marker can be nothing else), so that a document with a mistake
 * leaves the others alone.
 */
struct lt_yaml_part {
    lt_str text;   /* borrowed; one document */
    uint32_t line; /* of its first line in the file, from 1 */
};

struct lt_yaml_split {
    lt_str rest;
    uint32_t line;
};

static inline struct lt_yaml_part lt_yaml_whole(lt_str text)
{
    return (struct lt_yaml_part){text, 1};
}

static inline struct lt_yaml_split lt_yaml_split_init(lt_str file)
{
    return (struct lt_yaml_split){file, 1};
}

/* The next document; false at the end. One without content (only comments, say) comes too and
 * parses as LT_DOC_NULL. */
bool lt_yaml_split_next(struct lt_yaml_split *split, struct lt_yaml_part *ret_part);

/*
 * Parses one document; no content is LT_DOC_NULL. The tree lives in arena. limits NULL:
 * LT_DOC_LIMITS_DEFAULT. LT_E_BAD "line 3, column 5: ..." or LT_E_LIMIT; the arena may keep scraps
 * then.
 */
LT_MUST lt_rc lt_yaml_parse(struct lt_arena *arena, struct lt_yaml_part part,
                            const struct lt_doc_limits *limits, const struct lt_doc **ret_doc,
                            struct lt_err *err);

/*
 * One document of YAML, or of JSON when it begins with '{'. limits NULL as above. Errors
 * as lt_yaml_parse() or lt_json_parse() say them.
 */
LT_MUST lt_rc lt_yaml_or_json_parse(struct lt_arena *arena, lt_str text,
                                    const struct lt_doc_limits *limits,
                                    const struct lt_doc **ret_doc, struct lt_err *err);

#endif
