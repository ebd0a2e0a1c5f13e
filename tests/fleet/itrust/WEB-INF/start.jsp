<%!
    public void jspInit() {
        try {
            Thread.sleep(2000);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }
%>
