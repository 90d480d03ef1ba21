/* The parts that the README's C leaves to its reader. `ci/cpp readme` compiles each block behind this. */

#ifndef README_H
#define README_H

#include "capnproto_shm_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void accept_all(cshm_server* server, cshm_wait_set* set);
void answer(uint64_t key);

#endif
