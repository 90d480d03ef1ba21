# find_package(capnproto_shm_transport) gives
#   capnproto_shm_transport::shared, capnproto_shm_transport::static
#   capnproto_shm_transport::capnproto_shm_transport    one of the two: shared if BUILD_SHARED_LIBS is on or the other is not there
#
# This file is installed in PREFIX/share/cmake/capnproto_shm_transport, wherever PREFIX is moved to.

include_guard(GLOBAL)

if(NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(capnproto_shm_transport_FOUND FALSE)
  set(capnproto_shm_transport_NOT_FOUND_MESSAGE "capnproto_shm_transport needs a 64-bit target")
  return()
endif()

include(CMakeFindDependencyMacro)
find_dependency(Threads)

get_filename_component(_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_places "${_prefix}/lib" "${_prefix}/lib64")
if(CMAKE_LIBRARY_ARCHITECTURE)
  list(APPEND _places "${_prefix}/lib/${CMAKE_LIBRARY_ARCHITECTURE}")
endif()
find_library(_shared NAMES "libcapnproto_shm_transport${CMAKE_SHARED_LIBRARY_SUFFIX}" PATHS ${_places} NO_DEFAULT_PATH NO_CACHE)
find_library(_static NAMES "libcapnproto_shm_transport${CMAKE_STATIC_LIBRARY_SUFFIX}" PATHS ${_places} NO_DEFAULT_PATH NO_CACHE)

if(_shared)
  add_library(capnproto_shm_transport::shared SHARED IMPORTED)
  set_target_properties(capnproto_shm_transport::shared PROPERTIES
    IMPORTED_LOCATION "${_shared}"
    INTERFACE_INCLUDE_DIRECTORIES "${_prefix}/include"
    INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()
if(_static)
  add_library(capnproto_shm_transport::static STATIC IMPORTED)
  set_target_properties(capnproto_shm_transport::static PROPERTIES
    IMPORTED_LOCATION "${_static}"
    INTERFACE_INCLUDE_DIRECTORIES "${_prefix}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
endif()

if(_shared AND (BUILD_SHARED_LIBS OR NOT _static))
  set(_chosen shared)
elseif(_static)
  set(_chosen static)
else()
  set(capnproto_shm_transport_FOUND FALSE)
  set(capnproto_shm_transport_NOT_FOUND_MESSAGE "no libcapnproto_shm_transport in ${_places}")
  return()
endif()
add_library(capnproto_shm_transport::capnproto_shm_transport INTERFACE IMPORTED)
set_target_properties(capnproto_shm_transport::capnproto_shm_transport PROPERTIES
  INTERFACE_LINK_LIBRARIES capnproto_shm_transport::${_chosen})
