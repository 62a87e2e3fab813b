# Takes the place of llama.cpp's own CMakeLists.txt: its common and server parts alone, with the libraries in LIBRARIES,
# which pip has installed. Nothing is fetched, and no web page, TLS, tools or child processes are built in.
cmake_minimum_required(VERSION 3.18)
project(llama-server C CXX)

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)  # else it ends in an empty place, which means the working directory
set(CMAKE_INSTALL_RPATH "${LIBRARIES}")
set(BUILD_SHARED_LIBS OFF)
set(LLAMA_BUILD_COMMON ON)
set(LLAMA_SUBPROCESS OFF)
set(LLAMA_BUILD_UI OFF)
set(LLAMA_USE_PREBUILT_UI OFF)
set(LLAMA_OPENSSL OFF)
set(LLAMA_BUILD_BORINGSSL OFF)
set(LLAMA_VERSION_BASE 0.0.0)
set(LLAMA_VERSION_MAJOR 0)
set(LLAMA_BUILD_NUMBER 0)
set(LLAMA_BUILD_COMMIT "${BUILD}")
set(BUILD_COMPILER "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
set(BUILD_TARGET "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")

find_package(Threads REQUIRED)
include(cmake/common.cmake)
include(cmake/license.cmake)

foreach(name ggml-base ggml llama mtmd)
    add_library(${name} SHARED IMPORTED)
    set_target_properties(${name} PROPERTIES
        IMPORTED_LOCATION "${LIBRARIES}/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}")
endforeach()
target_include_directories(ggml INTERFACE ggml/include)
target_include_directories(llama INTERFACE include)
target_include_directories(mtmd INTERFACE tools/mtmd)
target_link_libraries(llama INTERFACE ggml ggml-base)
target_link_libraries(mtmd INTERFACE llama)

add_subdirectory(vendor)
add_subdirectory(common)
add_subdirectory(tools/ui)
add_subdirectory(tools/server)

if(NOT APPLE)
    target_link_options(llama-server PRIVATE -Wl,--disable-new-dtags)  # LD_LIBRARY_PATH doesn't bring other libraries
endif()
