void app_main(void);

int main(void) {
    app_main();
    return 1; /* only where the self-test fails */
}
