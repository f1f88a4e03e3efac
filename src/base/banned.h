/*
 * base/banned.h - calls that fail the compile. Included on the command line before every file of
 * ours.
 */
#ifndef LT_BASE_BANNED_H
#define LT_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC poison strcpy strcat sprintf vsprintf strtok gmtime localtime atoi atol asctime ctime

#endif
