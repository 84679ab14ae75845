/* The end of a campaign against hostile models in C++: what counts messages, and its main function, or libFuzzer's.
 *
 * What includes it has Seed, ReadSeed and OneInput, and counts as messages, accepted, refused, runs and opened.
 */
void MicroPrintf(const char *format, ...)
{
    CHECK(strncmp(format, "tflnest: ", 9) == 0);
    messages++;
}

#ifdef FUZZ_ALONE
int main(int count, char **arguments)
{
    CHECK(count == 4);
    static const Seed seed = ReadSeed(arguments[1]);
    fuzz_begin(arguments[2]);
    const unsigned long inputs = strtoul(arguments[3], nullptr, 10);
    for (unsigned long i = 0; i < inputs; i++) {
        OneInput(seed);
    }
    printf("%lu inputs: %u accepted, %u refused, %u runs, %u opened\n", inputs, accepted, refused, runs, opened);
    return 0;
}
#else
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const Seed seed = ReadSeed(getenv("FUZZ_SEED"));
    fuzz_script = bytes;
    fuzz_script_left = size;
    OneInput(seed);
    return 0;
}
#endif
