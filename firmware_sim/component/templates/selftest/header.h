/* $heading */
#ifndef ${guard}_H
#define ${guard}_H

$includes

#endif
