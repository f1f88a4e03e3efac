/*
 * proxy/xds/files.h - files that configuration names, looked at again when they are replaced: by a
 * move over them, or by that of a link above them, as Kubernetes does with its mounts. Main thread
 * only.
 */
#ifndef LT_PROXY_XDS_FILES_H
#define LT_PROXY_XDS_FILES_H

#include "net/loop.h"

struct px_files;
struct px_file;

struct px_files *px_files_new(struct lt_loop *loop);
/* No file may be left. */
void px_files_free(struct px_files **files);

/*
 * on_change comes from the loop, when what is found under path is another than when it was added.
 * directory: watched too, for what leads to path; may be empty.
 */
struct px_file *px_file_watch(struct px_files *files, lt_str path, lt_str directory,
                              void (*on_change)(void *ctx), void *ctx);
/* Accepts NULL; also from on_change. */
void px_file_unwatch(struct px_file **file);

#endif
