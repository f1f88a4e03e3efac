/*
 * model/load.h - from texts and directories of manifests to the objects in force.
 * A struct lt_manifests remembers, file by file, what was read. A bad document hurts nothing beside
 * itself: the object keeps its predecessor if there was one, and all others live on. Two files with
 * one object: the first file by name wins, the other is told. One directory may be live: it says
 * what is, not what is wanted, and completes the objects of the others. Not here: watching
 * (control/source_dir.h), rules between objects (model/check.h). Trust: files are a stranger's.
 * Limits: LT_MANIFEST_BYTES_MAX a file, LT_MANIFEST_FILES_MAX files.
 */
#ifndef LT_MODEL_LOAD_H
#define LT_MODEL_LOAD_H

#include "model/object.h"

enum {
    LT_MANIFEST_BYTES_MAX = 16 << 20,
    LT_MANIFEST_FILES_MAX = 10000,
};

struct lt_manifests;

struct lt_manifests *lt_manifests_new(void);
void lt_manifests_free(struct lt_manifests **manifests);

/*
 * Files of this directory and below are live (what a cluster's API server would add: cluster IPs,
 * Pods, endpoints). A live object and one of another file are one object, lt_object_complete of
 * both, and no duplicate. Before the first file; `dir` is copied.
 */
void lt_manifests_set_live(struct lt_manifests *manifests, lt_str dir);

/*
 * A file's new content. JSON when its name ends in .json, else YAML with any number of documents.
 * `file` is copied.
 */
void lt_manifests_put(struct lt_manifests *manifests, lt_str file, lt_str text);
/* The file is gone, and its objects with it. */
void lt_manifests_remove(struct lt_manifests *manifests, lt_str file);
/* The file is there and can't be read: what it said before stays; the reason becomes a note. */
void lt_manifests_fail(struct lt_manifests *manifests, lt_str file, const struct lt_err *err);

/*
 * What is in force, sorted by kind, namespace and name, and *ret_notes: all there is to say about
 * all files, in the order of files and lines (duplicates among it). Both are borrowed, until the
 * next call of any function here.
 */
const struct lt_object *const *lt_manifests_objects(struct lt_manifests *manifests,
                                                    size_t *ret_count,
                                                    const struct lt_notes **ret_notes);

/* There is something new since the last lt_manifests_objects. */
bool lt_manifests_have_changed(const struct lt_manifests *manifests);

/* Is this a manifest's name: .yaml, .yml or .json, not hidden, no editor's leftover. */
bool lt_manifest_is_name(lt_str name);

/*
 * Reads all manifests of a directory and the directories in it (net/tree.h), and forgets files that
 * are gone. A file or a directory in it that can't be read is a note; LT_E_IO when the directory
 * itself can't, LT_E_LIMIT when there are too many files: what was there before stays then.
 */
LT_MUST lt_rc lt_manifests_load_dir(struct lt_manifests *manifests, lt_str dir, struct lt_err *err);
/* One file, whole. The caller frees *ret_text with free(). */
LT_MUST lt_rc lt_manifest_read_file(const char *path, char **ret_text, size_t *ret_len,
                                    struct lt_err *err);

#endif
